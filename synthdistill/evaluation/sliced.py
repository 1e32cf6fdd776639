"""Where the student does worse, in the report: slices of the inputs beside the recipe's columns, the worst tenth, and those that are found.

cut = cut_up(prompts, rows, said_by_teacher)     # rows with bands of length and rare labels among their slices
report = reports.compared(cut.rows, ...)
add(report, cut, metric="exact_match")           # slices, found_slices, searched
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthdistill.evaluation import found_slices, labels, slices
from synthdistill.evaluation.comparison import ALL, Row, as_dict, rounded, shown, significant, systems_of
from synthdistill.evaluation.statements import Input, Statement, Where
from synthdistill.evaluation.statistics import STUDENT, TEACHER, bootstrap
from synthdistill.records import Prompt

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Cut:
    """The rows with all of their slices, by what each slice that the recipe does not name is made, and what is known of each input."""

    rows: list[Row]
    kinds: dict[str, slices.Kind]
    where: dict[str, Where]
    ids: list[str]
    inputs: list[Input]

    def places(self) -> dict[str, list[str]]:
        """By prompt id: the names of its slices, and of its labels where answers are a closed set. None is chosen by the outcome."""
        cut = zip(self.ids, self.rows, self.inputs, strict=True)
        return {
            name: [*row.slices, *(f"{field or 'label'}={label}" for field, label in given.labels.items() if label)]
            for name, row, given in cut
        }


def cut_up(prompts: Sequence[Prompt], rows: Sequence[Row], teacher: Mapping[str, str | None]) -> Cut:
    """Labels are the references where they are a closed set, else the teacher's answers (`teacher`, by prompt id) where these are."""
    columns = labels.columns([prompt.reference for prompt in prompts]) or labels.columns([teacher.get(prompt.id) for prompt in prompts])
    more = slices.of_inputs([prompt.text for prompt in prompts], columns)
    inputs = [
        Input.of(prompt.text, prompt.metadata, {field: column[place] for field, column in columns.items()})
        for place, prompt in enumerate(prompts)
    ]
    held = {(name, shown(value)) for prompt in prompts for name, value in prompt.metadata.items()}
    columns_of: dict[str, Where] = {f"{name}={value}": [[Statement("column", name, value)]] for name, value in held}
    return Cut(
        rows=slices.put(rows, more),
        kinds={name: each.kind for name, each in more.items()},
        where=columns_of | {name: each.where for name, each in more.items()},
        ids=[prompt.id for prompt in prompts],
        inputs=inputs,
    )


def add(report: dict[str, Any], cut: Cut, metric: str) -> None:
    """Set what each slice is made by, its gap, interval and corrected p; add the worst tenth and what is found. `metric` is what retention
    is about."""
    beside = {each["slice"]: each for each in report["comparisons"] if each["metric"] == metric}
    for each in report["slices"]:
        name = each["slice"]
        each["kind"] = "all" if name == ALL else cut.kinds.get(name, "column")
        each |= {key: beside[name][key] for key in ("gap", "interval", "p_adjusted")} | {"where": cut.where.get(name, [])}
    found, reason = _found(cut, metric)
    worst = slices.worst(cut.rows, cut.ids, metric, systems_of(report["systems"]))
    report["slices"] += [_chosen(each, "found") for each in found] + ([_chosen(worst, "worst")] if worst else [])
    report["found_slices"] = found
    report["searched"] = {"n": len(cut.rows), "reason": reason}


@dataclass(frozen=True, slots=True)
class Weak:
    """A slice of a report where the student surely loses: its name, the words that tell its inputs, what is said of them."""

    name: str
    words: list[str]
    where: Where


def weak(report: Mapping[str, Any]) -> list[Weak]:
    """Those that were found, then those of columns, lengths and rare labels where the student is surely worse than its teacher, and worse
    than on all rows. A report of an older version has none."""
    whole = next((each.get("gap") for each in report["slices"] if each.get("kind") == "all"), None)
    known = [
        each
        for each in report["slices"]
        if each.get("kind") in ("column", "length", "rare")
        and (each["p_adjusted"] if each["p_adjusted"] is not None else 1.0) <= found_slices.SURE
        and each["gap"] < min(0.0, whole or 0.0)
    ]
    known.sort(key=lambda each: (each["gap"], each["slice"]))
    by_name = {each["slice"]: each for each in [*known, *report.get("found_slices", [])]}
    order = dict.fromkeys(each["slice"] for each in [*report.get("found_slices", []), *known])
    return [_weak(by_name[name]) for name in order]


def _weak(each: Mapping[str, Any]) -> Weak:
    where = [[Statement(*said) for said in together] for together in each["where"]]
    return Weak(each["slice"], each.get("words", []), where)


def _chosen(each: Mapping[str, Any], kind: slices.Kind) -> dict[str, Any]:
    """As one of `slices`. It has no retention: no gate shall look at what the outcome has chosen."""
    retention = {"value": None, "interval": None, "reason": "chosen by its outcome: see the gap", "n": each["n"]}
    return {"slice": each["slice"], "kind": kind, "n": each["n"], "retention": retention, **each}


def _found(cut: Cut, metric: str) -> tuple[list[dict[str, Any]], str | None]:
    """The found slices, that with the surest loss first, and why there are none."""
    scored = [place for place, row in enumerate(cut.rows) if all(row.scores[who].get(metric) is not None for who in (STUDENT, TEACHER))]
    if len(scored) < found_slices.FEWEST:
        return [], f"{len(scored)} scored rows are too few to search: it takes {found_slices.FEWEST}"
    scores = [[float(cut.rows[place].scores[who][metric] or 0.0) for who in (STUDENT, TEACHER)] for place in scored]
    clusters = [cut.rows[place].cluster for place in scored]
    ids = [cut.ids[place] for place in scored]
    found = found_slices.find([cut.inputs[place] for place in scored], [teacher - student for student, teacher in scores], clusters)
    told = [_figures(each, scores, clusters, ids) for each in found]
    told = [each for each in told if each["gap"] < 0]
    told.sort(key=lambda each: (each["interval"]["high"] if each["interval"] else 0.0, each["gap"], each["slice"]))
    return told, None if told else "no slice of the inputs is surely worse than the rest"


def _figures(each: found_slices.Found, scores: Sequence[Sequence[float]], clusters: Sequence[str], ids: Sequence[str]) -> dict[str, Any]:
    """Its figures on the rows on which nothing was chosen: `n` of them, of `rows` in all."""
    import numpy as np

    values = np.array([scores[place] for place in each.judged], dtype=np.float64).reshape(len(each.judged), 1, 2)
    paired = bootstrap(values, [clusters[place] for place in each.judged])[0]
    gap = as_dict(paired.gap(STUDENT, TEACHER))
    lost = sorted((scores[place][STUDENT] - scores[place][TEACHER], ids[place]) for place in each.members)
    return {
        "slice": each.name,
        "words": each.words,
        "where": [each.said],
        "n": paired.n,
        "rows": len(each.members),
        "share": rounded(len(each.members) / len(scores)),
        "student": rounded(paired.mean(STUDENT)),
        "teacher": rounded(paired.mean(TEACHER)),
        "gap": gap["value"],
        "interval": gap["interval"],
        "p_adjusted": significant(each.p_adjusted),
        "examples": [prompt_id for loss, prompt_id in lost[:_EXAMPLES] if loss < 0],
    }
