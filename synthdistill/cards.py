"""README.md of what a run leaves: dataset cards of `generate/` and `filter/`, which `datasets` loads by, and a model card of the student.

    cards.keep(run, "generate", manifest)
    datasets.load_dataset("runs/triage/main/generate", "completions")

A card says what the sealed manifests say, so it is written after them and is none of their outputs: it can be made again at any time,
and whoever edits it breaks nothing. One that is there is left as it is.
"""

import hashlib
import json
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from synthdistill.errors import RecipeError
from synthdistill.manifest import Manifest, sealed
from synthdistill.records import Completion, Dropped, Example, Failure, Prompt, Split
from synthdistill.runs import Run
from synthdistill.shards import Output, seal
from synthdistill.terms import UNKNOWN, licence_of

RECORDS = {"examples": Example, "completions": Completion, "prompts": Prompt, "dropped": Dropped, "failures": Failure}
"""The files that a card tells of, by their stem; the first that has rows is what `load_dataset` gives without a name."""
FREE = {"text", "reference", "group", "source_ids", "reasoning"}
"""Texts of users and models. `datasets` takes a text column of dates for timestamps and writes them otherwise, but not within JSON."""
_EARLIER = {"generate": (), "filter": ("generate",), "train": ("generate", "filter")}
"""The stages that have a card, each with those whose manifests it tells of as well."""
_ROOM = Path(__file__).parent / "templates" / "cards"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"), (10**8, "10M<n<100M"))


@dataclass(frozen=True, slots=True)
class Subset:
    """One `config` of a dataset card: split -> pattern of its files, and how many rows they have."""

    name: str
    files: dict[str, str]
    rows: dict[str, int]
    features: list[dict[str, Any]]


def keep(place: Run, stage: str, manifest: Manifest) -> Path | None:
    """Write the card of a sealed stage where there is none; None for a stage that has no card.

    Raises:
        StorageError: the folder cannot be written, or an earlier manifest cannot be read.
    """
    if stage not in _EARLIER:
        return None
    path = place.stage(stage) / ("student/README.md" if stage == "train" else "README.md")
    if not path.exists():
        manifests = {name: sealed(place, name) for name in _EARLIER[stage]} | {stage: manifest}
        text = (_model_card if stage == "train" else _dataset_card)(place, manifests)
        seal(path, text.encode("utf-8", "replace"), rows=1)
    return path


def keep_export(place: Run, folder: Path, manifest: Manifest, *, report: Mapping[str, Any] | None, copies: Mapping[str, Manifest]) -> bool:
    """Write the card of an exported student, or of a copy of it: what the card of `train` tells, what `report` (eval's) measured, and what
    each of the `copies` that lie beside it loses. One that was written before is written anew where there is more to tell.

    Returns False where somebody has edited it: it ends with a hash of itself, and one that does not is left as it is.

    Raises:
        StorageError: the folder cannot be written, or an earlier manifest cannot be read.
    """
    path = folder / "README.md"
    manifests = {name: sealed(place, name) for name in (*_EARLIER["train"], "train")}
    text = _model_card(place, manifests, exported=manifest, report=report, copies=copies)
    if path.exists():
        there = path.read_bytes()
        told = there.rpartition(b"\n<!-- synthdistill ")[0]
        if there != told + _signature(told):
            return False
    data = text.encode("utf-8", "replace")
    if not path.exists() or path.read_bytes() != data + _signature(data):
        seal(path, data + _signature(data), rows=1)
    return True


def _signature(text: bytes) -> bytes:
    return f"\n<!-- synthdistill {hashlib.sha256(text).hexdigest()} -->\n".encode()


def subsets(manifest: Manifest) -> list[Subset]:
    """What can be loaded of a stage. A split without rows is left out: a pattern that matches no file is an error to `datasets`."""
    found: dict[str, tuple[dict[str, str], dict[str, int]]] = {}
    for output in sorted(manifest.outputs, key=_place_of_split):
        stem, _, split = re.sub(r"(-\d+)?\.jsonl$", "", output.file).partition("-")
        if output.rows and stem in RECORDS and (not split or split in get_args(Split)):
            split = split or "train"
            files, rows = found.setdefault(stem, ({}, {}))
            files[split] = re.sub(r"-\d+\.jsonl$", "-*.jsonl", output.file)
            rows[split] = rows.get(split, 0) + output.rows
    return [Subset(name, *found[name], features(RECORDS[name])) for name in RECORDS if name in found]


def _place_of_split(output: Output) -> int:
    return next((number for number, split in enumerate(get_args(Split)) if f"-{split}-" in output.file), 0)


def features(record: type) -> list[dict[str, Any]]:
    """The columns of a record as `datasets` declares them. Without, it guesses them from the first shard, and breaks on the next."""
    hints = get_type_hints(record)
    return [{"name": field.name, **_feature(hints[field.name], free=field.name in FREE)} for field in fields(record)]


def _feature(hint: Any, *, free: bool = False) -> dict[str, Any]:
    parts = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) in (Union, types.UnionType) and len(parts) == 1:
        return _feature(parts[0], free=free)
    if get_origin(hint) is list:
        inner = _feature(parts[0], free=free)
        return {"list": inner.get("struct") or inner["dtype"]}
    if is_dataclass(hint):
        return {"struct": features(hint)}  # type: ignore[arg-type]
    if get_origin(hint) is Literal or (hint is str and not free):
        return {"dtype": "string"}
    return {"dtype": {bool: "bool", int: "int64", float: "float64"}.get(hint, "json")}


def _dataset_card(place: Run, manifests: dict[str, Manifest]) -> str:
    *_, (stage, manifest) = manifests.items()
    found = subsets(manifest)
    header = {
        "license": _licence(manifest),
        "size_categories": _size(sum(found[0].rows.values())) if found else None,
        "subsets": found,
    }
    return _render("dataset.md", place, stage, manifests, header)


def _model_card(
    place: Run,
    manifests: dict[str, Manifest],
    *,
    exported: Manifest | None = None,
    report: Mapping[str, Any] | None = None,
    copies: Mapping[str, Manifest] = types.MappingProxyType({}),
) -> str:
    """Of the student as `train` left it; or of an export, with what is known of its worth."""
    trained, base = manifests["train"], manifests["train"].models["student_base"]
    of_base = _base_licence(place, base.id)
    source = str(manifests["generate"].config.get("prompts", {}).get("source", ""))
    hub = re.match(r"hf:([\w.-]+/[\w.-]+)", source)
    header = {
        "license": _licence(trained, of_base),
        "base_model": base.id if re.fullmatch(r"[\w.-]+/[\w.-]+", base.id) and not (place.base / base.id).exists() else None,
        "datasets": hub[1] if hub else None,
    }
    by_score = [each for each in report["comparisons"] if each["metric"] == report["score"]] if report else []
    settings = {key: _bare(value) for key, value in _flat(trained.config.get("train", {}))}
    return _render(
        "model.md",
        place,
        "train",
        manifests,
        header,
        base=base.model_copy(update={"id": _bare(base.id)}),
        base_licence=of_base,
        settings=settings,
        source=_bare(source),
        exported=exported,
        report=report,
        whole=next((each for each in by_score if each["slice"] == "all"), None),
        slices=[each for each in by_score if each["slice"] != "all"],
        max_tokens=_max_tokens(place) if exported else None,
        copies=copies,
    )


def _bare(value: Any) -> Any:
    """A path of this machine by its last part: a card travels."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _max_tokens(place: Run) -> int | None:
    found = sealed(place, "generate").config.get("eval", {}).get("sampling", {}).get("max_tokens")
    return int(found) if found else None


def _render(template: str, place: Run, stage: str, manifests: dict[str, Manifest], header: dict[str, Any], **more: Any) -> str:
    found = Environment(
        loader=FileSystemLoader(_ROOM),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    found.filters |= {
        "yaml": lambda value: json.dumps(value, ensure_ascii=False),
        "code": _code,
        "share": _share,
        "points": _points,
        "size": _bytes,
    }
    manifest = manifests[stage]
    generated = manifests["generate"]
    return found.get_template(template).render(
        header=header,
        name=place.folder.parent.name,
        run=place.name,
        stage=stage,
        manifest=manifest,
        manifests=manifests,
        generated=generated,
        terms=manifest.terms,
        teacher=generated.models.get("teacher"),
        sampling=dict(_flat({key: value for key, value in generated.config.get("generate", {}).items() if key in ("samples", "sampling")})),
        command=replace(place, recipe=Path(place.recipe).name).command(stage),
        **more,
    )


def _licence(manifest: Manifest, *others: str) -> dict[str, str]:
    """The hub's identifier; what it does not know, or several that differ, are `other` with a name."""
    names = list(dict.fromkeys([*others, manifest.terms.licence if manifest.terms else UNKNOWN]))
    known = (_ROOM / "licences.txt").read_text(encoding="utf-8").split()
    if len(names) == 1 and names[0].lower() in known:
        return {"license": names[0].lower()}
    slugs = [re.sub(r"[^a-z0-9.+]+", "-", name.lower()).strip("-") or "other" for name in names]
    return {"license": "other", "license_name": "-and-".join(slugs)}


def _base_licence(place: Run, base: str) -> str:
    try:
        return licence_of(base, place.base)
    except RecipeError:  # the folder was moved since
        return UNKNOWN


def _size(rows: int) -> str:
    return next((name for most, name in _SIZES if rows < most), "n>100M")


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _code(value: Any) -> str:
    """A value as code in a cell of Markdown, whatever is in it."""
    text = " ".join(str("-" if value is None else value).split()).replace("|", "\\|")
    fence = "``" if "`" in text else "`"
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _share(value: float | None) -> str:
    """A score or a share in percent."""
    return "not known" if value is None else f"{value * 100:.1f}%"


def _points(gap: Mapping[str, Any] | None) -> str:
    """A difference of shares in points, with its 95% interval: `-0.4 (-1.1 to +0.3)`."""
    if gap is None or gap["value"] is None:
        return "not known"
    ends = gap["interval"]
    between = f" ({_signed(ends['low'])} to {_signed(ends['high'])})" if ends else " (no interval)"
    return _signed(gap["value"]) + between


def _signed(value: float) -> str:
    return f"{round(value * 100, 1) + 0.0:+.1f}"


def _bytes(count: int) -> str:
    """Bytes as a person says them: 1.2 MB."""
    size, unit = next((pair for pair in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= pair[0]), (1, "bytes"))
    return f"{count / size:.3g} {unit}"
