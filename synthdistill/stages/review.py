"""People rate answers without knowing whose they are: `eval --review 100` writes a table, `eval --reviewed FILE` reads it.

    path = write(place, 100, to=None)              # eval/review.csv, and eval/review-key.json, which says whose answers these are
    manifest = read(place, Path("review.csv"), slices=["kind"])      # the metric `human` in report.json

A row of the table is a held-out prompt with the answers of teacher, student, the student in use and further systems, in an order of its
own, and an empty cell beside each for a rating from 1 (useless) to 5 (as good as can be). Which prompts are drawn, and in which order
systems stand, follows from hashes: a table of 200 holds that of 100, and says nothing of who is who. Nobody is asked anything again.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import msgspec

from synthdistill import shards, spreadsheet
from synthdistill.errors import RecipeError, StorageError, storage
from synthdistill.evaluation import comparison
from synthdistill.evaluation.metrics import Given, said
from synthdistill.manifest import Manifest, sealed
from synthdistill.records import Completion, Failure, Prompt, Score, decode, digest
from synthdistill.runs import Run
from synthdistill.stages import baselines
from synthdistill.stages.eval import STAGE, put_report, read_report

METRIC = "human"
TABLE, KEY, TAKEN = "review.csv", "review-key.json", "reviewed.csv"
LOW, HIGH = 1, 5
MISSING = "(no answer)"


def write(place: Run, count: int, *, to: Path | None = None) -> Path:
    """Write the table for `count` prompts, or as many as there are, and note whose answers these are.

    Raises:
        UnfinishedError: the evaluation is not finished.
        RecipeError: a table that somebody has begun to fill in is in the way; more systems than letters.
        StorageError: a file cannot be written.
    """
    sealed(place, STAGE)
    folder, path = place.stage(STAGE), to or place.stage(STAGE) / TABLE
    _refuse_overwriting(path)
    systems = [name for name in read_report(folder)["systems"] if name not in ("base", baselines.TFIDF)]
    if len(systems) > len(ascii_lowercase):
        raise RecipeError(f"{len(systems)} systems are more than a table has letters for", "Leave some of [eval] systems out")
    answers = _answers(place, systems)
    prompts = sorted(_judged(place), key=lambda prompt: digest("review", prompt.id))[:count]
    key, rows = {}, []
    for prompt in prompts:
        order = sorted(systems, key=lambda name: digest("review", prompt.id, name))
        key[_id(prompt)] = {"prompt_id": prompt.id, "systems": order}
        cells = [[MISSING if (text := answers[name].get(prompt.id)) is None else text, ""] for name in order]
        rows.append([_id(prompt), prompt.text, *(cell for pair in cells for cell in pair)])
    columns = [f"{what}_{letter}" for letter in ascii_lowercase[: len(systems)] for what in ("answer", "rating")]
    known = _key(folder) if (folder / KEY).is_file() else {}
    shards.seal(folder / KEY, (json.dumps(known | key, indent=2) + "\n").encode(), rows=len(known | key))
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    shards.seal(path, spreadsheet.written(["id", "prompt", *columns], rows), rows=len(rows))
    return path


def read(place: Run, file: Path, *, slices: Sequence[str]) -> Manifest:
    """Put the ratings of a table on the report as the metric `human`, in place of those that it has; a copy of the table stays with it. A
    prompt that is not rated for each of its answers is unscored, and counted.

    Raises:
        UnfinishedError: the evaluation is not finished.
        RecipeError: the table is not one of this run, or a cell is no rating; names row and column.
        StorageError: a file cannot be read or written.
    """
    manifest, folder = sealed(place, STAGE), place.stage(STAGE)
    if not (folder / KEY).is_file():
        raise RecipeError(f"no table was written for the run {place.name}", f"Write one with: {place.command(STAGE)} --review 100")
    ratings = _ratings(file, _key(folder))
    if not any(ratings.values()):
        raise RecipeError(f"{file} holds no rating", f"Fill in the columns rating_a, rating_b, ... with {LOW} to {HIGH}")
    report = read_report(folder)
    systems = comparison.systems_of(report["systems"])
    answers = _answers(place, [name for name in systems if name != "base"])
    rows = []
    for prompt in (prompt for prompt in _judged(place) if prompt.id in ratings):
        rated = {name: {METRIC: _score(value, answers[name].get(prompt.id))} for name, value in ratings[prompt.id].items()}
        said = {name: answers.get(name, {}).get(prompt.id) for name in systems}
        rows.append(comparison.row(prompt, said, [METRIC], given=Given(), slices=slices, told=rated))
    found = comparison.comparisons(comparison.compare(rows, [METRIC]), systems)
    others = [each for each in report["comparisons"] if each["metric"] != METRIC]
    report["comparisons"] = [*others, *(msgspec.to_builtins(each) for each in found)]
    report[METRIC] = {"rows": len(rows), "rated": found[0].n, "unscored": found[0].unscored, "scale": [LOW, HIGH]}
    taken = shards.seal(folder / TAKEN, file.read_bytes(), rows=len(rows))
    outputs = [*(output for output in manifest.outputs if output.file != TAKEN), taken]
    return put_report(report, manifest.model_copy(update={"outputs": outputs}), folder)


def _id(prompt: Prompt) -> str:
    """A letter first: of digits alone, or with an e among them, a spreadsheet would make a number."""
    return f"p{prompt.id}"


def _score(value: float, answer: str | None) -> Score:
    """A rating as a share; an answer that is not there is wrong, whatever it was rated."""
    return Score(METRIC, 0.0 if answer is None else (value - LOW) / (HIGH - LOW), "", "review")


def _judged(place: Run) -> Iterator[Prompt]:
    """The held-out prompts that the evaluation judged: those that its student was asked."""
    folder = place.stage(STAGE)
    asked = {row.prompt_id for row in shards.read(folder, "answers-student", Completion)}
    asked |= {row.prompt_id for row in (decode(line, Failure) for line in shards.whole_lines(folder / "failures.jsonl"))}
    return (prompt for prompt in shards.read(place.stage("generate"), "prompts-held_out", Prompt) if prompt.id in asked)


def _answers(place: Run, systems: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """What each system said, by prompt id; None where it was cut."""
    found: dict[str, dict[str, str | None]] = {}
    for name in systems:
        stage, stem = ("generate", "completions-held_out") if name == "teacher" else (STAGE, f"answers-{name}")
        found[name] = {row.prompt_id: said(row) for row in shards.read(place.stage(stage), stem, Completion) if row.index == 0}
    return found


def _key(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / KEY).read_bytes())
        return found
    except ValueError as error:
        raise StorageError(f"{folder / KEY} cannot be read: {error}", "Restore it, or write another table") from error


def _refuse_overwriting(path: Path) -> None:
    if not path.is_file():
        return
    columns, rows = spreadsheet.read(path)
    if "id" not in columns or any(row[name].strip() for row in rows for name in columns if name.startswith("rating_")):
        raise RecipeError(f"{path} is there, and is no empty table", "Read it with --reviewed, or write another one with --to FILE")


def _ratings(file: Path, key: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Prompt id -> system -> rating, of the cells that are filled in; with an entry for each row of the table.

    Raises:
        RecipeError: a column is missing, a row is unknown or there twice, a cell is no rating.
    """
    columns, rows = spreadsheet.read(file)
    if "id" not in columns:
        raise RecipeError(f"{file} has no column id", "Give the table that --review wrote, filled in")
    found: dict[str, dict[str, float]] = {}
    for number, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row.values()):
            continue
        known = key.get(row["id"].strip())
        if known is None:
            raise RecipeError(f"{file} row {number} column id: {row['id'][:60]!r} is no row that --review wrote for this run", "Restore it")
        if known["prompt_id"] in found:
            raise RecipeError(f"{file} row {number} column id: {row['id'][:60]} is there twice", "Leave one of them out")
        ratings = found[known["prompt_id"]] = {}
        for letter, system in zip(ascii_lowercase, known["systems"], strict=False):
            column = f"rating_{letter}"
            if column not in columns:
                raise RecipeError(f"{file} has no column {column}", "Give the table that --review wrote, filled in")
            if cell := row[column].strip():
                ratings[system] = _rating(cell, f"{file} row {number} column {column}")
    return found


def _rating(cell: str, where: str) -> float:
    try:
        value = float(cell.replace(",", "."))
    except ValueError:
        value = float("nan")
    if not LOW <= value <= HIGH:
        raise RecipeError(f"{where}: {cell[:40]!r} is no rating", f"Write a number from {LOW} to {HIGH}, or leave the cell empty")
    return value
