"""How fast the filter is on one core, beside the plain way of doing the same, in the same run.

    SYNTHDISTILL_DATA=... python benchmarks/filter.py
    python benchmarks/filter.py --quick      # a fifth of the rows

Prints one JSON line a figure and exits 1 where a target is missed. Rates are of this process's CPU time (on a shared machine the wall clock
tells of the neighbours), the best of three turns, taken alternately where two ways are compared.

Prompts are customer messages of Banking77 (CC BY 4.0) and questions of GSM8K (MIT) where SYNTHDISTILL_DATA names their folder, made-up
sentences of the same length where not; `how` says which. The answers are made here. What is planted, and in what, stands in `planted/`;
it is made once, in the system's temporary folder. Needed beside the extras: pip install rensa xxhash polars
"""

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from planted import truth
from planted.near import near_corpus
from planted.overlaps import overlap_corpus
from planted.peers import dict_duplicates, polars_overlaps, rensa_duplicates, spent
from planted.real import SETS, clinc_planted
from planted.templates import Family, family, hard_templates, logged_labels

from synthdistill import shards
from synthdistill.manifest import Counts, open_stage
from synthdistill.numeric import equal, final
from synthdistill.progress import Silent
from synthdistill.quality import dedup, kernel
from synthdistill.quality.agreement import Agree, Sample, agreed, answer_key
from synthdistill.quality.decontaminate import Decontaminate, HeldOut, Unseen
from synthdistill.quality.near import Near, NearDuplicates, shingled
from synthdistill.quality.verify import verifier
from synthdistill.records import Completion, Prompt, Usage, digest, encode
from synthdistill.runs import Run
from synthdistill.samplers.base import ScriptedModel, Workload
from synthdistill.stages import filter as stage

TURNS = 3
TEACHER = ScriptedModel(kind="scripted", answers="answers.jsonl")
"""Nobody asks it: there is no judge."""
UNSEEN = 1000
CHUNK = 2_000
"""Rows that are read at once."""
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
    options.add_argument("--rows", type=int, help="of the planted corpora; a million where it is left out, with --quick a twentieth")
    given = options.parse_args()
    count, rows = (50_000, 4_000) if given.quick else (1_000_000, 20_000)
    count, data = given.rows or count, os.environ.get("SYNTHDISTILL_DATA")
    missed = False
    parts = [_near(count), _templates(), _new_day(count), _overlaps(count), *([_real(Path(data))] if data else [])]
    for name, value, target, holds, how in itertools.chain(*parts, _whole_stage(rows), _validation(rows // 4), _end_to_end(count)):
        print(json.dumps({"name": name, "value": round(value, 4), "target": target, "holds": holds, "how": how}), flush=True)
        missed = missed or not holds
    sys.exit(1 if missed else 0)


def _near(count: int) -> Iterator[Figure]:
    """Near-duplicates, from texts in memory to what is kept: fold, words, bands, the exact check."""
    plain, both = near_corpus(count), near_corpus(count, view="both")
    few = min(count, 200_000)
    peer = rensa_duplicates(itertools.islice((text for _, text in plain), few))
    theirs = few / peer.seconds
    how = f"rows/s over rensa's RMinHashDeduplicator with the same words, {theirs:.0f} rows/s on {few} of {count} rows of 580 characters"
    for name, corpus, of, least in (("near", plain, "completion", 3.3), ("near_defaults", both, "both", 2.5)):
        with _Memory() as used:
            instead, seconds = _decided(corpus, NearDuplicates(of=of))  # type: ignore[arg-type]
        memory = used.peak
        rate, jaccard = len(corpus) / seconds, truth.jaccard_of(truth.word_shingles(), of)  # type: ignore[arg-type]
        yield f"{name}_over_rensa", rate / theirs, least, rate >= least * theirs, f"{how}; {rate:.0f} rows/s, of = {of}"
        some = {row: instead[row] for row in itertools.islice(instead, 20_000)}
        found, right = truth.recall(instead, corpus, 0.8, jaccard), truth.precision(some, corpus, 0.8, jaccard)
        yield f"{name}_recall", found.value or 0.0, 0.999, (found.value or 0) >= 0.999, f"of {found.of} planted pairs at 0.8 or more"
        yield (
            f"{name}_precision",
            right.value or 0.0,
            0.999,
            (right.value or 0) >= 0.999,
            f"of {right.of} rows dropped, template families included",
        )
        yield (
            f"{name}_memory_mb",
            memory,
            300,
            memory <= 300,
            "peak anonymous memory beyond what was there before; texts are streamed from a mapped file",
        )
    texts = list(itertools.islice((text for _, text in plain), min(count, 200_000)))
    keys, seconds = spent(lambda: np.concatenate([kernel.keys(texts[at : at + CHUNK]) for at in range(0, len(texts), CHUNK)]))
    found, more = spent(lambda: dedup.duplicates(keys, np.arange(len(texts))))
    other = dict_duplicates(texts)
    ratio, same = other.seconds / (seconds + more), float(set(np.flatnonzero(found >= 0).tolist()) == set(other.found))
    yield "exact_over_dict", ratio, 2, ratio >= 2, f"over a dict of xxh3(NFKC if not ascii), {len(texts) / other.seconds:.0f} rows/s"
    yield "exact_same_rows", same, 1, same == 1, f"1 where both drop the same, here {len(other.found)}"


class _Memory:
    """The most anonymous memory (MB) that this process had beyond what it began with, looked at every 10 ms."""

    peak = 0.0

    def __enter__(self) -> "_Memory":
        self._first, self._done = self._now(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, self._now() - self._first)

    def _now(self) -> float:
        return next(
            int(line.split()[1]) / 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")
        )


def _decided(corpus: Iterable[tuple[str, str]], config: NearDuplicates, *, common: bool = False) -> tuple[dict[int, int], float]:
    """The rows that are dropped, each with the one that is kept, and the CPU seconds, without the reading of the corpus."""
    seconds, rows = 0.0, iter(corpus)
    with tempfile.TemporaryDirectory() as folder, Near(Path(folder), config, common=common) as near:
        while some := list(itertools.islice(rows, CHUNK)):
            seconds += spent(lambda some=some: near.add(*_shingled(some, config)))[1]  # type: ignore[misc]
        numbers = np.arange(near.count)
        found, more = spent(lambda: near.decide(numbers, numbers.astype(np.uint64)))
    return {row: int(found.instead[row]) for row in np.flatnonzero(found.instead >= 0).tolist()}, seconds + more


def _shingled(rows: list[tuple[str, str]], config: NearDuplicates) -> tuple[kernel.Shingles, kernel.Shingles]:
    asked = [prompt for prompt, _ in rows] if config.of != "completion" else []
    said = [completion for _, completion in rows] if config.of != "prompt" else []
    return shingled(kernel.read(asked)), shingled(kernel.read(said))


def _templates() -> Iterator[Figure]:
    """What must not be merged, and what must, with the template known and as part of the text."""
    hard = hard_templates()
    for name, column, common in (("known", "own", False), ("logged", "whole", True)):
        wrong, found = _merged(hard, column, common)
        yield f"template_{name}_wrongly_merged", wrong, 0, wrong == 0, f"of {len(hard)} rows under a system prompt of 300 words"
        yield f"template_{name}_found", found, 500, found == 500, "near-duplicates among them, of 500"
    wrong, _ = _merged(logged_labels(), "user", True)
    yield (
        "labels_wrongly_merged",
        wrong,
        0,
        wrong == 0,
        "of 5,000 messages of 20 words behind 300 of instruction in the same turn, with five answers",
    )
    for common in (False, True):
        rows = [(row.own, row.answer) for row in family().rows]
        left = len(rows) - len(_decided(rows, NearDuplicates(), common=common)[0])
        yield f"family_left{'_logged' * common}", left, 1, left == 1, "rows left of 2,000 that differ in one word of 60"


def _merged(rows: Family, column: str, common: bool) -> tuple[int, int]:
    """Rows dropped for one that is not their like, and planted ones that are gone or whose source is."""
    instead, _ = _decided([(getattr(row, column), row.answer) for row in rows.rows], NearDuplicates(), common=common)
    sources = dict(rows.pairs())
    kin = set(sources.items()) | {(source, row) for row, source in sources.items()}
    kin |= (
        {(one, other) for one in sources for other in sources if one != other and sources[one] == sources[other]}
        if len(sources) < 1000
        else set()
    )
    return sum(pair not in kin for pair in instead.items()), sum(
        row in instead or instead.get(source) == row for row, source in sources.items()
    )


def _new_day(count: int) -> Iterator[Figure]:
    """A hundredth more rows beside those of an index on disk."""
    corpus = near_corpus(count)
    new = count // 100
    config, numbers = NearDuplicates(of="completion"), np.arange(count)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rows = iter(corpus)
        with Near(place, config) as near:
            while near.count < count - new and (some := list(itertools.islice(rows, min(CHUNK, count - new - near.count)))):
                near.add(*_shingled(some, config))
            near.save(place / "index")
        rest = list(rows)
        with Near(place, config, saved=place / "index") as near:

            def candidates() -> int:
                for at in range(0, len(rest), CHUNK):
                    near.add(*_shingled(rest[at : at + CHUNK], config))
                return int(near.candidates()[-new:].sum())

            _, seconds = spent(candidates)
            found = near.decide(numbers, numbers.astype(np.uint64)).instead
    whole, _ = _decided(corpus, config)
    same = float({row: int(found[row]) for row in np.flatnonzero(found >= 0).tolist()} == whole)
    yield (
        "new_day_candidates_s",
        seconds,
        1,
        seconds <= 1,
        f"CPU seconds for the candidates of {new} new rows beside {count - new}, texts read",
    )
    yield "new_day_same_result", same, 1, same == 1, "1 where it is that of one run over all"


def _overlaps(count: int) -> Iterator[Figure]:
    """Decontamination against 10,000 prompts of 60 words."""
    corpus = overlap_corpus(count)
    held = HeldOut([Unseen(f"{number:05d}", text) for number, text in enumerate(corpus.evals)], Decontaminate())
    hits: dict[int, int] = {}
    seconds, first, rows = 0.0, 0, iter(corpus.texts)
    while some := list(itertools.islice(rows, CHUNK)):
        found, more = spent(lambda some=some: held.overlaps(some))  # type: ignore[misc]
        hits |= {first + row: int(overlap.name) for row, overlap in enumerate(found) if overlap}
        seconds += more
        first += len(some)
    few = min(count, 200_000)
    polars_overlaps(itertools.islice(corpus.texts, 1000), corpus.evals)  # the first call is slow
    peer = polars_overlaps(itertools.islice(corpus.texts, few), corpus.evals)
    rate, theirs, judged = count / seconds, few / peer.seconds, corpus.found(hits)
    how = f"rows/s over polars (explode, hash, is_in), {theirs:.0f} rows/s; ours {rate:.0f}, bags of words included"
    yield "overlaps_over_polars", rate / theirs, 2.5, rate >= 2.5 * theirs, how
    yield (
        "overlaps_recall",
        judged.recall or 0.0,
        0.995,
        (judged.recall or 0) >= 0.995,
        f"of {len(corpus.hit)} planted, wide letters and case included",
    )
    yield "overlaps_false", judged.false, 0, judged.false == 0, f"rows hit without a planted overlap, of {count}"


def _real(folder: Path) -> Iterator[Figure]:
    """Public data, against brute force and the authors' marks."""
    for of in ("both", "completion"):
        for name, load in SETS.items():
            rows = load(folder)
            if of == "completion" and name != "gsm8k":
                rows = [("", text) for text, _ in rows]
            names: dict[str, int] = {}
            group = np.array([names.setdefault(prompt or str(number), len(names)) for number, (prompt, _) in enumerate(rows)], np.uint64)
            with tempfile.TemporaryDirectory() as scratch, Near(Path(scratch), NearDuplicates(of=of)) as near:  # type: ignore[arg-type]
                near.add(*_shingled(rows, near.config))
                found = near.decide(np.arange(len(rows)), group).instead
            instead = {row: int(found[row]) for row in np.flatnonzero(found >= 0).tolist()}
            pairs = truth.near_pairs(rows, 0.8, truth.word_shingles(), of=of, apart=of == "both" or name == "gsm8k")  # type: ignore[arg-type]
            right = truth.precision(instead, rows, 0.8, truth.jaccard_of(truth.word_shingles(), of))  # type: ignore[arg-type]
            recall, lost = truth.recall_of_pairs(instead, pairs), len(truth.lost(instead, rows))
            holds = (recall.value is None or recall.value >= 0.99) and (right.value is None or right.value >= 0.99) and not lost
            how = f"of = {of}; {recall.of} pairs by brute force, precision {right.value} of {right.of} dropped, {lost} answers lost"
            yield f"{name}_{of}_recall", 1.0 if recall.value is None else recall.value, 0.99, holds, how
    planted = clinc_planted(folder)
    for name, each in (("clinc_planted", planted), ("clinc_under_system", planted.under_system())):
        held = HeldOut([Unseen(f"{number:05d}", text) for number, text in enumerate(planted.held_out)], Decontaminate())
        texts = [text.removeprefix(f"{each.system}\n\n") for text, _ in each.rows]  # a row's own text: the system's turn is known
        found = [overlap is not None for overlap in held.overlaps(texts)]
        wanted = {**each.copies, **each.edits}
        share = sum(found[row] for row in wanted) / len(wanted)
        yield (
            f"{name}_found",
            share,
            1,
            share == 1,
            f"of {len(wanted)} copies and one-word edits; {sum(found) - len(wanted)} of {len(found)} other rows hit",
        )
    rows = [json.loads(line) for line in (folder / "gsm8k/model_solutions.jsonl").read_text(encoding="utf-8").splitlines()]
    same = sum((equal(row["solution"], row["gold"]) is True) == row["is_correct"] for row in rows)
    yield "numeric_agrees", same, len(rows), same == len(rows), "gsm8k solutions that the numeric verifier marks as their authors do"
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["question"]].append(row)
    for least in (0.5, 0.75, 1.0):
        right = covered = 0
        for group in groups.values():
            samples = [Sample(row["model"], answer_key(final(row["solution"])), 0) for row in group]
            found_share = agreed(samples, Agree(min_share=least))
            if found_share.enough:
                covered += 1
                right += next(row for row in group if row["model"] == found_share.majority[0])["is_correct"]
        how = f"share of right majority answers of four models at {least}, on {covered / len(groups):.0%} of {len(groups)} questions"
        yield f"agreement_precision_{least:g}", right / max(covered, 1), 0, True, how


def _end_to_end(count: int) -> Iterator[Figure]:
    """From disk to disk, in a process of its own that is killed halfway and started again."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        _corpus_on_disk(base, count)
        code = (
            "import sys, time; from pathlib import Path; from synthdistill.progress import Silent;"
            "from synthdistill.runs import Run;"
            "from synthdistill.stages import filter as stage; place = Run(Path(sys.argv[1]) / 'run', Path(sys.argv[1]), 'recipe.toml');"
            "counts = stage.run(stage.Config(), teacher=None, place=place, workload=None, progress=Silent()).counts;"
            "print(counts.read, counts.written, time.process_time(), Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
        )
        command = [sys.executable, "-c", code, folder]
        killed = subprocess.Popen(command)
        while len(list((base / "run/filter").glob("scores-*.jsonl"))) < 8 and killed.poll() is None:
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        kept = len(list((base / "run/filter").glob("scores-*.jsonl")))
        started = time.monotonic()
        read, written, cpu, memory = map(float, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
        wall = time.monotonic() - started
    memory /= 1024  # of its own address space: ru_maxrss begins with what the parent had
    holds = read == count
    yield (
        "stage_rows_per_s",
        count / wall,
        0,
        holds,
        f"{count} rows, default filter, {cpu:.0f} CPU s after a kill -9 at {kept} of 16 shards; {written:.0f} kept",
    )
    yield "stage_memory_mb", memory, 2000, memory < 2000, "peak of that process"


def _corpus_on_disk(base: Path, count: int) -> None:
    """A run whose generate stage is sealed with a planted corpus."""
    (base / "schema.json").write_text("{}")
    opening = open_stage((base / "run/generate"), "generate", {}, inputs={}, run=Run(base / "run", base, "recipe.toml"), shards=16)
    files = {
        name: [(opening.folder / f"{name}-train-{shard:05d}.jsonl").open("wb") for shard in range(16)]
        for name in ("prompts", "completions")
    }
    for number, (asked, said) in enumerate(near_corpus(count, view="both")):
        text = f"{asked} ({number})" if number % 2 else asked
        prompt = Prompt(digest(text, number), [str(number)], [{"role": "user", "content": text}], text, "train")
        usage = Usage(80, 40)
        row = Completion(digest(prompt.id), prompt.id, prompt.source_ids, 0, said, "stop", "teacher", usage, 0.4)
        shard = shards.shard_of(prompt.id, 16)
        files["prompts"][shard].write(encode(prompt))
        files["completions"][shard].write(encode(row))
    for each in itertools.chain(*files.values()):
        each.close()
    opening.seal(outputs=[], counts=Counts())


def _whole_stage(count: int) -> Iterator[Figure]:
    """From disk to disk: read, all steps, write and seal."""
    texts, source = _texts("banking77/train.jsonl", "text", count // 4 + UNSEEN, words=12)
    unseen = [_prompt(text, "held_out") for text in texts[:UNSEEN]]
    prompts = [_prompt(text, "train") for text in texts[UNSEEN:]]
    completions = [row for prompt in prompts for row in _samples(prompt)]
    config = stage.Config(verify=["json_schema:schema.json"], agree=Agree(min_share=0.5))
    seconds = []
    for _ in range(TURNS):
        with tempfile.TemporaryDirectory() as folder:
            place = _generated(Path(folder), [*prompts, *unseen], completions)
            started = time.process_time()
            counts = stage.run(config, teacher=TEACHER, place=place, workload=Workload(), progress=Silent()).counts
            seconds.append(time.process_time() - started)
    rate = len(completions) / min(seconds)
    how = f"rows/s of the stage, {counts.read} rows of {source}, 4 a prompt, default rules, schema, agreement; {counts.written} kept"
    yield "filter_rows_per_s", rate, 10_000, rate >= 10_000, how


def _validation(count: int) -> Iterator[Figure]:
    """A JSON schema: ours beside the pure Python jsonschema, both from the answer's text."""
    from jsonschema import Draft202012Validator

    rows = [row for number in range(count // 4) for row in _samples(_prompt(f"message {number}", "train"))]
    plain = Draft202012Validator(SCHEMA)
    prompt = _prompt("", "train")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
        judge = verifier("json_schema:schema.json", Path(folder)).measure
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


if __name__ == "__main__":
    main()
