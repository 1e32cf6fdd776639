"""A finished run on disk, written through the same functions as the stages use, with answers that a small seeded teacher made up.

place = finished(tmp_path, rows=40)
place = finished(tmp_path, report={"gate": None}, first={"prompt": "...", "student": "..."})
place = finished(tmp_path, current="last-week")  # with a student in use beside it
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthdistill import shards
from synthdistill.manifest import Counts, Manifest, ModelUsed, open_stage
from synthdistill.records import Completion, Dropped, Example, Prompt, Usage, digest
from synthdistill.runs import Run

INTENTS = ("delivery", "refund", "exchange", "payment", "privacy", "warranty")
PRODUCTS = ("hiking backpack", "desk lamp", "blender", "running shoes", None)
HARD = ("none", "none", "none", "typo", "two_requests", "distractor")
RECIPE = """name = "triage"

[prompts]
source = "messages.jsonl"
template = "prompts/triage.md"
reference = "label"
slices = ["seen", "hard"]

[teacher]
kind = "builtin"
terms = { licence = "apache-2.0", training_allowed = true, reviewed = "2026-11-22" }

[gate]
retention = 0.92
"""
ROLES = ("student", "teacher", "base")
FIELDS = ("intent", "product", "order", "urgency")


def finished(
    folder: Path,
    *,
    rows: int = 40,
    report: dict[str, Any] | None = None,
    first: dict[str, str] | None = None,
    recipe: str = RECIPE,
    seed: int = 0,
    current: str | None = None,
) -> Run:
    """Write a run. `report` goes over the keys of report.json; `first` over the texts and slices of the first held-out row.
    `current` is the run of a student in use."""
    place = Run(folder / "runs" / "triage" / "main", folder, str(folder / "recipe.toml"))
    place.save_place()
    (place.folder / "recipe.resolved.toml").write_text(recipe, encoding="utf-8")
    draw = random.Random(seed)
    made = [_row(number, draw, first if number == 0 and first else {}) for number in range(rows)]
    generated = _generate(place, made)
    filtered = _filter(place, generated)
    trained = _train(place, filtered, draw)
    inputs = {"generate": generated.fingerprint, "filter": filtered.fingerprint, "train": trained.fingerprint}
    _eval(place, made, inputs, report or {}, current)
    return place


def completion(prompt: Prompt, model: str, text: str, finish: str = "stop") -> Completion:
    """An answer to a prompt."""
    return Completion(digest(prompt.id, model), prompt.id, prompt.source_ids, 0, text, finish, model, Usage(60, 40), 0.1)  # type: ignore[arg-type]


def _row(number: int, draw: random.Random, given: dict[str, str]) -> dict[str, Any]:
    gold = {
        "intent": draw.choice(INTENTS),
        "product": draw.choice(PRODUCTS),
        "order": str(draw.randrange(10000, 99999)) if draw.random() < 0.7 else None,
        "urgency": draw.choice(("low", "normal", "high")),
    }
    text = f"Hello, it is about {gold['product'] or 'my account'}, order {gold['order'] or 'lost'}: please help with the {gold['intent']}."
    metadata = {"seen": draw.choice(("seen template", "held-out template")), "hard": draw.choice(HARD)}
    said = {name: _mistaken(gold, draw, share) for name, share in (("teacher", 0.03), ("student", 0.07), ("base", 0.6))}
    answers = {name: json.dumps(answer) for name, answer in said.items()}
    if draw.random() < 0.02:
        answers["student"] = "I am not sure what you mean."
    said["current"] = said["base"] | {name: said["student"][name] for name in FIELDS[:2]}
    answers["current"] = json.dumps(said["current"])
    prompt = given.get("prompt", text)
    messages = [{"role": "system", "content": "Turn it into a ticket."}, {"role": "user", "content": prompt}]
    metadata |= {key: value for key, value in given.items() if key in metadata}
    asked = Prompt(
        id=digest(messages, number),
        source_ids=[given.get("id", f"h{number:06d}")],
        messages=messages,
        text=prompt,
        split="held_out",
        reference=given.get("gold", json.dumps(gold)),
        metadata=metadata,
    )
    return {"prompt": asked, "gold": gold, "said": said} | answers | {k: v for k, v in given.items() if k in answers}


def _mistaken(gold: dict[str, Any], draw: random.Random, share: float) -> dict[str, Any]:
    wrong = {"intent": "other", "product": "umbrella", "order": "1", "urgency": "unknown"}
    return {name: wrong[name] if draw.random() < share else value for name, value in gold.items()}


def _generate(place: Run, made: Sequence[dict[str, Any]]) -> Manifest:
    opening = open_stage(place.stage("generate"), "generate", {"samples": 1}, inputs={}, run=place)
    folder, prompts = opening.folder, [row["prompt"] for row in made]
    outputs = shards.write(folder, "prompts-held_out", prompts, shards=2)
    answers = [completion(row["prompt"], "teacher", row["teacher"]) for row in made]
    outputs += shards.write(folder, "completions-held_out", answers, shards=2, key="prompt_id")
    train = [Prompt(digest("train", n), [f"m{n}"], [], f"row {n}", "train") for n in range(50)]
    outputs += shards.write(folder, "completions-train", [completion(p, "teacher", "{}") for p in train], shards=2, key="prompt_id")
    asked = len(made) + len(train)
    return opening.seal(
        outputs=outputs,
        counts=Counts(
            read=asked + 2,
            written=asked,
            failed={"timeout": 2},
            more={"rows": asked + 7, "rows_merged": 4, "rows_dropped_empty": 1, "prompts_held_out": len(made)},
        ),
        files={"messages.jsonl": "ab" * 32},
        models={"teacher": ModelUsed(id="builtin/triage-teacher", revision="0123456789abcdef")},
        usage={"input": 61000, "output": 42000, "cached_input": 0},
    )


def _filter(place: Run, generated: Manifest) -> Manifest:
    opening = open_stage(place.stage("filter"), "filter", {"rules": ["finished"]}, inputs={"generate": generated.fingerprint}, run=place)
    kept = [Example(digest("e", n), digest("train", n), digest("c", n), [f"m{n}"], [], []) for n in range(43)]
    lost = [Dropped(digest("c", n), "filter", reason, []) for n, reason in enumerate(["repetition"] * 3 + ["duplicate"] * 4, 43)]
    outputs = shards.write(opening.folder, "examples", kept, shards=2) + shards.write(
        opening.folder, "dropped", lost, shards=2, key="completion_id"
    )
    funnel = [
        {"step": "quarantine", "in": 50, "out": 50, "reasons": {}},
        {"step": "rules", "in": 50, "out": 47, "reasons": {"repetition": 3}},
        {"step": "best_of_prompt", "in": 47, "out": 47, "reasons": {}},
        {"step": "duplicate", "in": 47, "out": 43, "reasons": {"duplicate": 4}},
    ]
    counts = Counts(read=50, written=43, dropped={"repetition": 3, "duplicate": 4})
    return opening.seal(outputs=outputs, counts=counts, results={"funnel": funnel})


def _train(place: Run, filtered: Manifest, draw: random.Random) -> Manifest:
    opening = open_stage(place.stage("train"), "train", {"epochs": 3}, inputs={"filter": filtered.fingerprint}, run=place)
    lines: list[dict[str, Any]] = []
    for step in range(10, 401, 10):
        lines.append({"step": step, "epoch": step / 133, "loss": 3.2 * 0.985**step + 0.05 + draw.random() * 0.01})
        if step % 80 == 0:
            lines.append({"step": step, "epoch": step / 133, "validation_loss": 3.3 * 0.985**step + 0.07})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    outputs = [shards.seal(opening.folder / "metrics.jsonl", text.encode(), rows=len(lines))]
    counts = Counts(read=43, written=42, dropped={"too_long": 1}, more={"rows_train": 42, "rows_validation": 0})
    return opening.seal(outputs=outputs, counts=counts, results={"best_validation_loss": 0.0779, "parameters": 512_000})


def _eval(place: Run, made: Sequence[dict[str, Any]], inputs: dict[str, str], changes: dict[str, Any], current: str | None) -> None:
    opening = open_stage(place.stage("eval"), "eval", {"eval": {"metrics": ["json_fields"], "text_fields": []}}, inputs=inputs, run=place)
    outputs = []
    for role in ("student", "base", *(["current"] if current else [])):
        answers = [completion(row["prompt"], role, row[role]) for row in made]
        outputs += shards.write(opening.folder, f"answers-{role}", answers, shards=2, key="prompt_id")
    report = _report(made, current) | changes
    outputs.append(shards.seal(opening.folder / "report.json", json.dumps(report).encode(), rows=1))
    models = {name: ModelUsed(id=f"runs/{name}", revision="fedcba9876543210") for name in ("student", "base")}
    opening.seal(outputs=outputs, counts=Counts(read=len(made), written=len(made)), models=models)


def _report(made: Sequence[dict[str, Any]], current: str | None) -> dict[str, Any]:
    """What eval writes; its intervals are of a normal approximation, as a page does not care."""
    slices = sorted({f"{name}={value}" for row in made for name, value in row["prompt"].metadata.items()})
    compared = []
    for place in ["all", *slices]:
        rows = [row for row in made if place == "all" or place in [f"{k}={v}" for k, v in row["prompt"].metadata.items()]]
        roles = (*ROLES, "current") if current else ROLES
        shares = [tuple(_share(row, who) for who in roles) for row in rows]
        compared.append(_comparison("json_fields", place, shares))
        for field in FIELDS:
            hits = [tuple(float(row["said"][who][field] == row["gold"][field]) for who in roles) for row in rows]
            compared.append(_comparison(f"json_fields.{field}", place, hits))
        compared.append(_comparison("exact_match", place, [tuple(float(value == 1) for value in row) for row in shares]))
    whole = compared[0]
    kept = whole["student"] / whole["teacher"]
    more = _beside(whole, current) if current else {"current": None}
    return {
        "n": len(made),
        "left_out": 3,
        "score": "json_fields",
        "systems": {
            "teacher": _system("builtin/triage-teacher", 3_900_000, 1010.4, whole["teacher"]),
            "student": _system("runs/student", 512_000, 4210.0, whole["student"]),
            "base": _system("builtin", 512_000, 4190.0, whole["base"]),
            **({"current": _system("student", 512_000, 4200.0, whole["current"])} if current else {}),
        },
        "answers": {name: {"answered": len(made), "cut": 0, "failed": 0} for name in ("teacher", "student", "base")},
        "comparisons": compared,
        "slices": [_kept(row) for row in compared if row["metric"] == "json_fields"],
        "retention": {"value": kept, "interval": {"low": kept - 0.017, "high": kept + 0.015}, "reason": None, "of": "reference"},
        "recovered": {"value": 0.93, "interval": {"low": 0.9, "high": 0.96}, "reason": None},
        "beats_base": {"value": 52.31, "interval": {"low": 49.9, "high": 54.7}, "reason": None},
        "self_agreement": {"value": 1.0, "interval": None, "reason": "a greedy teacher agrees with itself by definition", "n": 0},
        "speedup": 4.17,
        "speed": {"basis": "generated tokens/s in a batch, median of rounds by turns", "prompts": 128, "batch": 128, "rounds": {}},
        "cost": {
            "ratio": 0.22,
            "interval": {"low": 0.21, "high": 0.24},
            "rounds": 3,
            "basis": "seconds per answer at equal batch on this machine; no prices are given",
        },
        "gate": {
            "passed": True,
            "checks": [{"name": "retention", "value": kept - 0.017, "threshold": 0.92, "passed": True, "n": len(made)}],
        },
    } | more


def _kept(row: dict[str, Any]) -> dict[str, Any]:
    """A slice as reports of an older version have it."""
    kept = row["student"] / row["teacher"]
    return {
        "slice": row["slice"],
        "n": row["n"],
        "retention": {"value": kept, "interval": None, "reason": None, "of": "reference", "n": row["n"]},
    }


def _beside(whole: dict[str, Any], current: str) -> dict[str, Any]:
    """The part of a report about the student in use."""
    gap, ratio = whole["student"] - whole["current"], whole["student"] / whole["current"]
    return {
        "current": {
            "run": current,
            "retention": {"value": ratio, "interval": {"low": ratio - 0.02, "high": ratio + 0.02}, "reason": None, "n": whole["n"]},
            "gap": {"value": gap, "interval": {"low": gap - 0.01, "high": gap + 0.01}, "reason": None},
        }
    }


def check(name: str, value: float, threshold: float, n: int) -> dict[str, Any]:
    """A check of the gate."""
    return {"name": name, "value": value, "threshold": threshold, "passed": value >= threshold, "n": n}


def _share(row: dict[str, Any], who: str) -> float:
    return sum(row["said"][who][field] == row["gold"][field] for field in FIELDS) / len(FIELDS)


def _comparison(metric: str, place: str, scores: Sequence[tuple[float, ...]]) -> dict[str, Any]:
    n = len(scores)
    student, teacher, base, *current = (sum(row[index] for row in scores) / n for index in range(len(scores[0])))
    gaps = [row[0] - row[1] for row in scores]
    spread = 1.96 * (sum((gap - (student - teacher)) ** 2 for gap in gaps) / n / n) ** 0.5
    gap = student - teacher
    interval = {"low": gap - spread, "high": gap + spread} if n > 1 else None
    return {
        "metric": metric,
        "slice": place,
        "student": student,
        "teacher": teacher,
        "base": base,
        "current": current[0] if current else None,
        "gap": gap,
        "interval": interval,
        "n": n,
        "unscored": 0,
    }


def _system(model: str, parameters: int, rate: float, score: float) -> dict[str, Any]:
    latency = {"p50": 4000 / rate * 40, "p95": 5200 / rate * 40}
    return {"model": model, "parameters": parameters, "tokens_per_s": rate, "latency_ms": latency, "usd_per_1k": None, "score": score}
