"""How fast the filter is on one core, beside the plain way of doing the same, in the same run.

    SYNTHDISTILL_DATA=... python benchmarks/filter.py
    python benchmarks/filter.py --quick      # a fifth of the rows

Prints one JSON line a figure and exits 1 where a target is missed. Rates are of this process's CPU time (on a shared machine the wall clock
tells of the neighbours), the best of three turns, taken alternately where two ways are compared.

Prompts are customer messages of Banking77 (CC BY 4.0) and questions of GSM8K (MIT) where SYNTHDISTILL_DATA names their folder, made-up
sentences of the same length where not; `how` says which. The answers are made here.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from synthdistill import shards
from synthdistill.manifest import Counts, open_stage
from synthdistill.progress import Silent
from synthdistill.quality.decontaminate import HeldOut, spoken
from synthdistill.quality.verify import verifier
from synthdistill.records import Completion, Prompt, Usage, digest
from synthdistill.runs import Run
from synthdistill.stages import filter as stage

TURNS = 3
UNSEEN = 1000
NGRAM = 13
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["intent", "urgency", "summary"],
    "additionalProperties": False,
    "properties": {
        "intent": {"type": "string", "minLength": 3},
        "urgency": {"enum": ["low", "normal", "high"]},
        "order": {"type": ["integer", "null"], "minimum": 1},
        "summary": {"type": "string", "maxLength": 400},
    },
}

Figure = tuple[str, float, float, bool, str]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    rows = 4_000 if options.parse_args().quick else 20_000
    missed = False
    for name, value, target, holds, how in [*_whole_stage(rows), *_decontamination(rows // 4), *_validation(rows // 4)]:
        print(json.dumps({"name": name, "value": round(value, 4), "target": target, "holds": holds, "how": how}))
        missed = missed or not holds
    sys.exit(1 if missed else 0)


def _whole_stage(count: int) -> Iterator[Figure]:
    """From disk to disk: read, all steps, write and seal."""
    texts, source = _texts("banking77/train.jsonl", "text", count // 4 + UNSEEN, words=12)
    unseen = [_prompt(text, "held_out") for text in texts[:UNSEEN]]
    prompts = [_prompt(text, "train") for text in texts[UNSEEN:]]
    completions = [row for prompt in prompts for row in _samples(prompt)]
    config = stage.Config(verify=["json_schema:schema.json"], agree=stage.Agree(min_share=0.5))
    seconds = []
    for _ in range(TURNS):
        with tempfile.TemporaryDirectory() as folder:
            place = _generated(Path(folder), [*prompts, *unseen], completions)
            started = time.process_time()
            counts = stage.run(config, place=place, progress=Silent()).counts
            seconds.append(time.process_time() - started)
    rate = len(completions) / min(seconds)
    how = f"rows/s of the stage, {counts.read} rows of {source}, 4 a prompt, default rules, schema, agreement; {counts.written} kept"
    yield "filter_rows_per_s", rate, 10_000, rate >= 10_000, how


def _decontamination(count: int) -> Iterator[Figure]:
    """Runs of 13 words: our hashes beside a set of joined strings."""
    texts, source = _texts("gsm8k/train.jsonl", "question", count + UNSEEN, words=46)
    unseen, train = texts[:UNSEEN], texts[UNSEEN:]
    held, known = HeldOut(unseen, NGRAM), _joined_index(unseen)
    fast, slow, hashed, joined = _side_by_side(
        lambda: [held.overlap(text) is not None for text in train],
        lambda: [not known.isdisjoint(_joined_runs(text)) for text in train],
    )
    rate, ratio, same = len(train) / fast, slow / fast, float(hashed == joined)
    memory = _bytes(lambda: HeldOut(unseen, NGRAM)) / _bytes(lambda: _joined_index(unseen))
    yield "decontaminate_rows_per_s", rate, 15_000, rate >= 15_000, f"rows/s, {len(train)} rows of {source}, 13-grams of {UNSEEN} prompts"
    yield "decontaminate_over_joined_strings", ratio, 1.1, ratio >= 1.1, "rate over that of a Python set of joined 13-grams, same words"
    yield "decontaminate_same_rows", same, 1.0, same == 1.0, f"1 where both ways drop the same rows, here {sum(hashed)}"
    yield "decontaminate_index_bytes", memory, 0.8, memory <= 0.8, "memory of the index over that of the set of joined 13-grams"


def _validation(count: int) -> Iterator[Figure]:
    """A JSON schema: ours beside the pure Python jsonschema, both from the answer's text."""
    from jsonschema import Draft202012Validator

    rows = [row for number in range(count // 4) for row in _samples(_prompt(f"message {number}", "train"))]
    plain = Draft202012Validator(SCHEMA)
    prompt = _prompt("", "train")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
        judge = verifier("json_schema:schema.json", Path(folder))
    fast, slow, ours, theirs = _side_by_side(
        lambda: [judge(row, prompt).value == 1.0 for row in rows],
        lambda: [plain.is_valid(_loaded(row.text)) for row in rows],
    )
    rate, ratio, same = len(rows) / fast, slow / fast, float(ours == theirs)
    yield "schema_rows_per_s", rate, 100_000, rate >= 100_000, f"rows/s, {len(rows)} JSON answers, {ours.count(False)} of them invalid"
    yield "schema_over_jsonschema", ratio, 10, ratio >= 10, "rate over that of json.loads and jsonschema's Draft202012Validator"
    yield "schema_same_verdicts", same, 1.0, same == 1.0, "1 where both give the same verdict on every row"


def _texts(file: str, key: str, count: int, *, words: int) -> tuple[list[str], str]:
    """Distinct texts, repeated under a number where the file has fewer, and where they come from."""
    folder = os.environ.get("SYNTHDISTILL_DATA")
    draw = random.Random(7)
    if folder:
        with (Path(folder) / file).open(encoding="utf-8") as lines:
            found = [json.loads(line)[key] for line in lines]
        draw.shuffle(found)
        source = file.partition("/")[0]
    else:
        vocabulary = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(4000)]
        found = [" ".join(draw.choices(vocabulary, k=draw.randint(words // 2, words * 3 // 2))) for _ in range(count)]
        source = "made-up words"
    return [found[number % len(found)] + (f" ({number})" if number >= len(found) else "") for number in range(count)], source


def _prompt(text: str, split: Any) -> Prompt:
    return Prompt(digest(text, split), [text[:20]], [{"role": "user", "content": text}], text, split)


def _samples(prompt: Prompt) -> Iterator[Completion]:
    """Four answers: three agree, one has another urgency; one of ten breaks the schema."""
    draw = random.Random(prompt.id)
    for index in range(4):
        urgency = "high" if index == 3 else "urgent" if draw.random() < 0.1 else "normal"
        answer = {"intent": "card_arrival", "urgency": urgency, "order": 4711, "summary": f"customer asks: {prompt.text[:60]}"}
        usage = Usage(80, 40)
        yield Completion(digest(prompt.id, index), prompt.id, prompt.source_ids, index, json.dumps(answer), "stop", "teacher", usage, 0.4)


def _generated(folder: Path, prompts: list[Prompt], completions: list[Completion]) -> Run:
    (folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    place = Run(folder / "run", folder, "recipe.toml")
    opening = open_stage(place.stage("generate"), "generate", {}, inputs={}, run=place)
    for split in ("train", "held_out"):
        shards.write(opening.folder, f"prompts-{split}", [row for row in prompts if row.split == split], shards=16)
    shards.write(opening.folder, "completions-train", completions, shards=16, key="prompt_id")
    opening.seal(outputs=[], counts=Counts())
    return place


def _joined_runs(text: str) -> Iterator[str]:
    said = spoken(text)
    return (" ".join(said[start : start + NGRAM]) for start in range(len(said) - NGRAM + 1))


def _joined_index(texts: Sequence[str]) -> set[str]:
    return {run for text in texts for run in _joined_runs(text)}


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _side_by_side(one: Callable[[], list[bool]], other: Callable[[], list[bool]]) -> tuple[float, float, list[bool], list[bool]]:
    """The best CPU seconds of each over alternating turns, and what each found."""
    best = [float("inf"), float("inf")]
    found: list[list[bool]] = [[], []]
    for _ in range(TURNS):
        for number, work in enumerate((one, other)):
            started = time.process_time()
            found[number] = work()
            best[number] = min(best[number], time.process_time() - started)
    return best[0], best[1], found[0], found[1]


def _bytes(build: Callable[[], object]) -> int:
    tracemalloc.start()
    index = build()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del index
    return size


if __name__ == "__main__":
    main()
