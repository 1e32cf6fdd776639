"""The way of the rows from the user's source to what the student was trained on: nothing disappears between two lines.

for step in funnel(generated, filtered, trained, labelled): step.name, step.read, step.kept, step.lost
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthdistill.manifest import Manifest
from synthdistill.quality.funnel import remarks


@dataclass(frozen=True, slots=True)
class Step:
    """One line: `read` units came in, `kept` went on, and `lost` says where each of the others is."""

    stage: str
    name: str
    unit: str
    read: int
    kept: int
    lost: dict[str, int]
    remark: str = ""

    @property
    def gone(self) -> int:
        """How many did not go on."""
        return sum(self.lost.values())


def funnel(generated: Manifest, filtered: Manifest, trained: Manifest, labelled: Manifest | None = None) -> list[Step]:
    """Every step of a run, in order; `labelled` where the student learned from soft targets."""
    return [*_generate(generated, filtered), *_filter(filtered), *(_label(labelled) if labelled else []), *_train(trained)]


def _generate(generated: Manifest, filtered: Manifest) -> list[Step]:
    counts, more = generated.counts, generated.counts.more
    rows = more.get("rows", 0)
    left_out = {name.removeprefix("rows_dropped_"): number for name, number in more.items() if name.startswith("rows_dropped_")}
    left_out |= {"the same content as another row": more.get("rows_merged", 0), "beyond --limit": more.get("prompts_beyond_limit", 0)}
    aside = {
        f"{split.replace('_', '-')} answers, kept apart": _rows(generated, f"completions-{split}-") for split in ("validation", "held_out")
    }
    remaining = counts.written - sum(aside.values())
    aside["beyond --limit"] = max(remaining - filtered.counts.read, 0)
    return [
        Step("generate", "rows to prompts", "rows", rows, rows - sum(left_out.values()), _some(left_out)),
        Step("generate", "answers asked for", "answers", counts.read, counts.written, _some({**counts.dropped, **counts.failed})),
        Step("generate", "answers to train on", "answers", counts.written, counts.written - sum(aside.values()), _some(aside)),
    ]


def _filter(filtered: Manifest) -> list[Step]:
    steps: list[Mapping[str, Any]] = filtered.results.get("funnel", [])
    said = remarks(filtered)
    return [
        Step("filter", str(step["step"]), "answers", step["in"], step["out"], _some(step["reasons"]), said.get(str(step["step"]), ""))
        for step in steps
    ]


def _label(labelled: Manifest) -> list[Step]:
    counts, mass = labelled.counts, labelled.results.get("discarded_mass")
    remark = "" if mass is None else f"{mass:.2g} of the teacher's probability is not stored, in the mean over tokens"
    if labelled.results.get("objective") == "coarse":
        remark += "; at a temperature other than 1 the objective is coarse: classes are tempered, no normaliser is known"
    return [Step("label", "examples scored", "examples", counts.read, counts.written, _some(counts.dropped), remark)]


def _train(trained: Manifest) -> list[Step]:
    """The examples, and the validation answers that were kept apart above."""
    steps = []
    for name, kind, own in (("examples trained on", "train", False), ("answers validated on", "validation", True)):
        lost = {reason: number for reason, number in trained.counts.dropped.items() if reason.startswith("validation_") == own}
        kept = trained.counts.more.get(f"rows_{kind}", 0)
        steps.append(Step("train", name, "examples", kept + sum(lost.values()), kept, _some(lost)))
    return [step for step in steps if step.read]


def _rows(manifest: Manifest, stem: str) -> int:
    return sum(output.rows for output in manifest.outputs if output.file.startswith(stem))


def _some(reasons: Mapping[str, int]) -> dict[str, int]:
    return {reason: number for reason, number in sorted(reasons.items(), key=lambda item: (-item[1], item[0])) if number}
