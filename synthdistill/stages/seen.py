"""The words that a student has seen: what neither it nor a student that goes on from it can be judged on, and what is new to it.

    outputs = seen.write(folder, keys, count=16)   # train/seen-*.jsonl
    seen.key(prompt.text) in seen.of(run)

A prompt is known by its own words, normalised: another template, system's turn or set of examples does not make it another one.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from synthdistill import shards
from synthdistill.manifest import sealed
from synthdistill.records import digest
from synthdistill.runs import Run
from synthdistill.text import normalise

STEM = "seen"


@dataclass(frozen=True, slots=True)
class Seen:
    """A line of the file."""

    id: str


@dataclass(frozen=True, slots=True)
class _Words:
    """The part of a `Prompt` that is looked at here."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class _Trained:
    """The part of an `Example` that is looked at here."""

    prompt_id: str


def key(text: str) -> str:
    """What a prompt is known by: 32 hex digits over its normalised words."""
    return digest(normalise(text))


def of(run: Run) -> set[bytes]:
    """The keys, 16 bytes each, of all that a run's student was trained or validated on, and those that it started from.

    A run that was sealed before the file was written is known by its examples and its validation prompts.

    Raises:
        UnfinishedError: the run has no finished student.
        StorageError: a file cannot be read.
    """
    outputs = sealed(run, "train").outputs
    if any(output.file.startswith(f"{STEM}-") for output in outputs):
        return {bytes.fromhex(row.id) for row in shards.read(run.stage("train"), STEM, Seen)}
    examples = {row.prompt_id for row in shards.read(run.stage("filter"), "examples", _Trained)}
    validation = {row.id for row in shards.read(run.stage("generate"), "prompts-validation", _Words)}
    return set(map(bytes.fromhex, keys(run, examples | validation).values()))


def keys(run: Run, prompt_ids: Collection[str]) -> dict[str, str]:
    """Prompt id -> key, of those prompts for training and validation that are named."""
    return {
        row.id: key(row.text)
        for split in ("train", "validation")
        for row in shards.read(run.stage("generate"), f"prompts-{split}", _Words)
        if row.id in prompt_ids
    }


def write(folder: Path, known: Iterable[str], *, count: int) -> list[shards.Output]:
    """Seal the keys (hex digits), each once, as `seen-*.jsonl`.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    return shards.write(folder, STEM, map(Seen, sorted(set(known))), shards=count)
