"""What a run has cost so far: bills of its teacher and its judge, and the time of the machine that it trained on.

    usd(place, teacher, usd_per_hour=2.0)            # None where nothing of it has a price

Machine time counts for `train`, and for stages without a bill whose teacher answers here. A stage's time is that of the start that ended
it, and answers that were taken over were paid for by the run that they come from.
"""

from synthdistill.manifest import load
from synthdistill.runs import Run
from synthdistill.samplers.base import BuiltinModel, Model, TransformersModel, VllmModel

STAGES = ("generate", "filter", "label", "train")
_ASKED = ("generate", "label")


def usd(place: Run, teacher: Model, *, usd_per_hour: float | None, more: float | None = None) -> float | None:
    """Dollars of the stages before eval, and `more` of eval itself; None where nothing of it has a price.

    Raises:
        StorageError: a manifest cannot be read.
    """
    timed = ("train", *_ASKED) if isinstance(teacher, BuiltinModel | TransformersModel | VllmModel) else ("train",)
    parts = [] if more is None else [more]
    for stage in STAGES:
        manifest = load(place.stage(stage))
        if manifest is None:
            continue
        if manifest.cost_usd is not None:
            parts.append(manifest.cost_usd)
        if usd_per_hour is not None and stage in timed and not (manifest.cost_usd and stage in _ASKED):
            parts.append(manifest.seconds / 3600 * usd_per_hour)
    return round(sum(parts), 6) if parts else None
