"""Write the rows of the demo: training-source messages and held-out messages, the same bytes for the same seed.

    python -m examples.triage.make
    python -m examples.triage.make --out /tmp/triage --rows 20000 --heldout 1000 --seed 7

Held-out rows are half from templates never trained on, half new messages of training templates.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from examples.triage import fragments
from examples.triage.messages import NEVER_TRAINED, TRAIN, Row, Template, stream

DEMO = Path(__file__).parents[2] / "synthdistill" / "templates" / "triage"
HELDOUT_SEED = 90210
TRAIN_SEED = 11
HELDOUT_RARE_SHARE = 0.025  # a rare intent is drawn more often here, so that its slice can be measured
NGRAM = 13

Record = dict[str, str]


def words(message: str) -> tuple[str, ...]:
    """Lower-cased words without punctuation, as overlap is counted on them."""
    return tuple(re.findall(r"\w+", message.lower()))


def ngrams(message: str) -> set[tuple[str, ...]]:
    """Every run of 13 words; a shorter message stands for itself."""
    found = words(message)
    return {found[at : at + NGRAM] for at in range(max(1, len(found) - NGRAM + 1))}


def heldout_rows(count: int, seed: int = HELDOUT_SEED) -> list[Record]:
    """Half the rows from templates never trained on, half new messages from training templates."""
    half = count // 2
    never = islice(stream(NEVER_TRAINED, seed, HELDOUT_RARE_SHARE), half)
    new = islice(stream(TRAIN, seed + 1, HELDOUT_RARE_SHARE), count - half)
    rows = [_record(row, row.template, "held-out template") for row in never]
    rows += [_record(row, f"{row.template}/new", "seen template") for row in new]
    return [{"id": f"h{at:06d}", **row} for at, row in enumerate(rows, start=1)]


def training_rows(seed: int, heldout: Iterable[Record], templates: tuple[Template, ...] = TRAIN) -> Iterator[Record]:
    """Endless distinct rows from the training templates, none of whose messages is in `heldout`."""
    barred = {words(row["message"]) for row in heldout}
    rows = (row for row in stream(templates, seed) if words(row.message) not in barred)
    for at, row in enumerate(rows, start=1):
        yield {"id": f"m{at:06d}", **_record(row, row.template, "seen template")}


def overlap(train: Iterable[Record], heldout: Iterable[Record]) -> float:
    """Share of training rows that share 13 consecutive words with a held-out row."""
    barred = set().union(*(ngrams(row["message"]) for row in heldout))
    hits = [not barred.isdisjoint(ngrams(row["message"])) for row in train]
    return sum(hits) / len(hits)


def fragment_count() -> int:
    """How many pieces of text were written to fill the slots."""
    lists = [value for name, value in vars(fragments).items() if name.isupper() and isinstance(value, tuple)]
    nested = [*fragments.DETAILS.values(), *fragments.SECOND_REQUESTS.values()]
    return sum(map(len, nested)) + sum(len(pieces) for pieces in lists if pieces is not fragments.INTENTS)


def write(rows: list[Record], path: Path) -> None:
    """Gzipped JSON lines whose bytes do not depend on the clock or the file name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))


def _record(row: Row, group: str, seen: str) -> Record:
    return {
        "message": row.message,
        "label": row.label,
        "template": row.template,
        "group": group,
        "hard": row.hard,
        "seen": seen,
    }


def main() -> None:
    """Write both files and print what is in them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DEMO)
    parser.add_argument("--rows", type=int, default=8500)
    parser.add_argument("--heldout", type=int, default=700)
    parser.add_argument("--seed", type=int, default=TRAIN_SEED)
    options = parser.parse_args()

    heldout = heldout_rows(options.heldout)
    train = list(islice(training_rows(options.seed, heldout), options.rows))
    write(train, options.out / "messages.jsonl.gz")
    write(heldout, options.out / "held-out.jsonl.gz")

    print(f"templates: {len(TRAIN)} for training, {len(NEVER_TRAINED)} held out; fragments: {fragment_count()}")
    print(f"rows: {len(train)} for training, {len(heldout)} held out, in {options.out}")
    print(f"training rows sharing {NGRAM} words with a held-out row: {overlap(train, heldout):.1%}")


if __name__ == "__main__":
    main()
