"""`report.json` from what was measured: plain dictionaries, as they lie on disk. `stages/eval.py` says what each key means.

report = compared(rows, names, score="json_fields", of="reference")
add_speed(report, measured)
add_cost(report, teacher_price=None, usd_per_hour=2.0)
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from synthdistill.evaluation import cost, gate, metrics, non_inferiority, speed
from synthdistill.evaluation.comparison import ALL, Row, as_dict, compare, comparisons, rounded, systems_of
from synthdistill.evaluation.statistics import BASE, CURRENT, STUDENT, TEACHER, Paired, bootstrap
from synthdistill.records import Completion, Failure

Of = Literal["reference", "agreement", "judgement"]
"""What the score is a score of: the gold answers, the teacher's, or neither, as a judge's or a user's function is."""
RESULTS = (
    *("n", "score", "retention", "non_inferiority", "recovered", "beats_base", "current", "baselines", "judge", "human"),
    *("self_agreement", "systems", "speedup", "cost", "gate", "validity", "calibration", "cascade", "cascade_chosen"),
)


def kind_of(score: str, *, gold: bool) -> Of:
    """What a score is a score of; `gold`: whether any prompt has a reference."""
    if score == "agreement" or (not gold and score == "json_valid"):
        return "agreement"
    return "reference" if gold else "judgement"


def compared(
    rows: Sequence[Row], names: Sequence[str], *, score: str, of: Of, current: str | None = None, others: Sequence[str] = ()
) -> dict[str, Any]:
    """The part of the report that follows from the scores alone. `current` is the run of the student in use, where the rows have it;
    `others` are further systems."""
    found = compare(rows, names)
    whole = found[ALL][score]
    shown = ["teacher", "student", "base", *(["current"] if current else []), *others]
    systems = systems_of(shown)
    return {
        "n": len(rows),
        "score": score,
        "systems": {name: _system(systems.index(name), whole, apart=name in others) for name in shown},
        "comparisons": [msgspec.to_builtins(record) for record in comparisons(found, systems)],
        "slices": [_slice(place, by_metric, score, of) for place, by_metric in found.items()],
        "retention": _retention(found[ALL], score, of),
        "non_inferiority": non_inferiority.spread(found[ALL][judged_by(score, of)]),
        "recovered": as_dict(whole.recovered()),
        "beats_base": as_dict(whole.gap(STUDENT, BASE), scale=100),
        "current": _against_current(found[ALL][judged_by(score, of)], current, rows, judged_by(score, of)) if current else None,
    }


def answered(answers: Mapping[str, Completion | Failure], prompt_ids: Sequence[str]) -> dict[str, int]:
    """How a system's answers ended: those that count, those that were cut, those that are not there."""
    found = [answers.get(prompt_id) for prompt_id in prompt_ids]
    cut = sum(isinstance(answer, Completion) and answer.finish == "length" for answer in found)
    good = sum(isinstance(answer, Completion) and metrics.said(answer) is not None for answer in found)
    return {"answered": good, "cut": cut, "failed": len(found) - good - cut}


def valid(answers: Mapping[str, Completion | Failure], prompt_ids: Sequence[str]) -> float | None:
    """The share of a system's answers that are JSON; one that is missing or cut is none."""
    said = [metrics.said(answer) if isinstance(answer := answers.get(name), Completion) else None for name in prompt_ids]
    return rounded(sum(metrics.measure("json_valid", metrics.Case(each))[0].value or 0.0 for each in said) / len(said)) if said else None


def mean_tokens(answers: Mapping[str, Completion | Failure], prompt_ids: Sequence[str]) -> dict[str, float]:
    """Mean input, output and cached input tokens of a system's answers, cut ones included: they are paid for."""
    usages = [answer.usage for prompt_id in prompt_ids if isinstance(answer := answers.get(prompt_id), Completion)]
    kinds = ("input", "output", "cached_input")
    return {kind: round(sum(getattr(usage, kind) for usage in usages) / max(len(usages), 1), 3) for kind in kinds}


def self_agreement(pairs: Sequence[tuple[str | None, str | None]], clusters: Sequence[str]) -> dict[str, Any]:
    """The teacher with itself: the share of prompts whose second answer equals the first, with an interval."""
    import numpy as np

    scores = [metrics.measure("agreement", metrics.Case(second, teacher=first))[0].value for first, second in pairs]
    values = [[[float("nan") if score is None else score, 1.0]] for score in scores]
    paired = bootstrap(np.array(values, dtype=np.float64).reshape(len(values), 1, 2), clusters)[0]
    return as_dict(paired.ratio(0, 1, whole=True)) | {"n": paired.n}


def add_speed(report: dict[str, Any], measured: speed.Measured) -> None:
    """Set tokens/s, latency and memory of each system, and the speedup where both were measured in the same way."""
    rates = {name: speed.median(rounds) for name, rounds in measured.rounds.items()}
    for name, system in report["systems"].items():
        system["tokens_per_s"] = rates.get(name, measured.single_stream.get(name))
        system["tokens_per_s_single"] = measured.single_stream.get(name)
        system["latency_ms"] = speed.percentiles_ms(measured.seconds.get(name, []))
        system["memory_mb"] = measured.memory_mb.get(name)
    teacher, student = rates.get("teacher"), rates.get("student")
    report["speedup"] = round(student / teacher, 3) if teacher and student else None
    report["speed"] = {
        "basis": measured.basis,
        "prompts": measured.prompts,
        "batch": measured.batch,
        "rounds": {name: [round(rate, 1) for rate in rounds] for name, rounds in measured.rounds.items()},
        "batches": {name: {str(rows): round(rate, 1) for rows, rate in rates.items()} for name, rates in measured.batches.items()},
        "single": len(measured.seconds.get("student", [])),
        "memory": measured.memory,
    }


def add_cost(report: dict[str, Any], *, teacher_price: Mapping[str, float | None] | None, usd_per_hour: float | None) -> None:
    """Set usd_per_1k of each system and the ratio with its interval: the least and the greatest of the rounds in which speed was
    measured. The teacher costs by its price or, where it has none and ran on this machine like the student, by the hour like it."""
    rounds = report["speed"]["rounds"]
    middle = {name: speed.median(rounds.get(name, [])) for name in ("teacher", "student")}
    sides = _sides(report, middle, teacher_price, usd_per_hour)
    for name, system in report["systems"].items():
        system["usd_per_1k"] = rounded(sides[name].usd_per_1k) if name in sides else None
    ratio, basis = cost.compare(sides["student"], sides["teacher"])
    turns = [dict(zip(rounds, rates, strict=True)) for rates in zip(*rounds.values(), strict=True)]
    each = [_sides(report, rates, teacher_price, usd_per_hour) for rates in turns]
    ratios = [found for side in each if (found := cost.compare(side["student"], side["teacher"])[0]) is not None]
    interval = {"low": rounded(min(ratios)), "high": rounded(max(ratios))} if ratio is not None and len(ratios) > 1 else None
    report["cost"] |= {"ratio": rounded(ratio), "interval": interval, "rounds": len(ratios), "basis": basis}


def _sides(
    report: Mapping[str, Any],
    rates: Mapping[str, float | None],
    teacher_price: Mapping[str, float | None] | None,
    usd_per_hour: float | None,
) -> dict[str, cost.Side]:
    sides = {}
    for name in ("teacher", "student"):
        tokens = cost.Tokens(**report["cost"]["tokens"][name])
        seconds = cost.seconds_per_answer(tokens, rates.get(name))
        usd = cost.usd_by_time(seconds, usd_per_hour) if usd_per_hour is not None else None
        if name == "teacher" and teacher_price is not None:
            price = {key: value for key, value in teacher_price.items() if value is not None}
            usd = 1000 * cost.usd(tokens, **price)
        sides[name] = cost.Side(usd, seconds)
    return sides


def results(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest repeats of a report."""
    return {key: report[key] for key in RESULTS if key in report}  # a report of an older version has no `current`


def unscored(report: Mapping[str, Any]) -> dict[str, int]:
    """metric -> rows that it could not judge, over all rows."""
    return {each["metric"]: each["unscored"] for each in report["comparisons"] if each["slice"] == ALL and each["unscored"]}


def _system(number: int, whole: Paired, *, apart: bool) -> dict[str, Any]:
    """A system's score; of one `apart` from student, teacher and base also how much better the student is than it."""
    told = as_dict(whole.level(number))
    found = {"score": told["value"], "interval": told["interval"]}
    return found | ({"gap": as_dict(whole.gap(STUDENT, number))} if apart else {})


def _slice(place: str, by_metric: Mapping[str, Paired], score: str, of: Of) -> dict[str, Any]:
    return {"slice": place, "n": by_metric[judged_by(score, of)].n, "retention": _retention(by_metric, score, of)}


def _retention(by_metric: Mapping[str, Paired], score: str, of: Of) -> dict[str, Any]:
    """Against the reference a ratio of scores. Agreement is one by itself: the teacher's with itself is 1."""
    paired = by_metric[judged_by(score, of)]
    return as_dict(paired.ratio(STUDENT, TEACHER, whole=of == "agreement")) | {"of": of, "n": paired.n}


def _against_current(paired: Paired, run: str, rows: Sequence[Row], metric: str) -> dict[str, Any]:
    """Student over the student in use, student minus it in units of the score, and the share of rows that only that one has right."""
    return {
        "run": run,
        "retention": as_dict(paired.ratio(STUDENT, CURRENT)) | {"n": paired.n},
        "gap": as_dict(paired.gap(STUDENT, CURRENT)),
        "regressions": gate.regressions(rows, metric),
    }


def judged_by(score: str, of: Of) -> str:
    """The metric that retention is about."""
    return "agreement" if of == "agreement" else score
