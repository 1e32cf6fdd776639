"""Rows of a data set of the Hugging Face hub, by name: `hf:owner/name`, `hf:owner/name[split=test,config=main,revision=abc123]`.

for values, place in rows("hf:PolyAI/banking77[split=test]"):
    values["text"], place                        # "hf:PolyAI/banking77[split=test] row 3"

The `datasets` library fetches it once and keeps it in its cache (`HF_HOME`, `HF_DATASETS_CACHE`), from which it is read without the
hub as well (`HF_HUB_OFFLINE=1`). A process fetches a name once, so that all it does sees the same rows.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from logging import CRITICAL, getLogger
from pathlib import Path
from typing import Any

import msgspec

from synthdistill.errors import MissingError, RecipeError, SynthdistillError, require, storage

_NAME = re.compile(r"hf:((?:[\w.-]+/)?[\w.-]+)(?:\[(.*)\])?")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_FORM = 'Write it as "hf:owner/name" or "hf:owner/name[split=test,config=main,revision=abc123]"'
_BATCH = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class _Name:
    """`repo` is `owner/name`. `config` and `revision` are the hub's default where they are not given."""

    repo: str
    split: str = "train"
    config: str | None = None
    revision: str | None = None


def is_hub(name: str | Path) -> bool:
    """Whether a source is a name of the hub and no path."""
    return isinstance(name, str) and name.startswith("hf:")


def rows(name: str | Path, key: str = "[prompts] source") -> Iterator[tuple[dict[str, Any], str]]:
    """Every row with its place. A class label reads as its name; pictures and sounds stay the bytes that they are.

    Raises:
        RecipeError: no such data set, split, configuration or revision.
        MissingError: the library is not installed; the hub cannot be reached and the data set is not in the cache.
    """
    for number, values in enumerate(_rows(str(name), key), 1):
        yield values, f"{name} row {number}"


def rows_hash(name: str | Path, key: str = "[prompts] source") -> str:
    """SHA-256 over all rows: the same here and there, from the hub and from the cache, and whatever else changes in its repository.

    Raises:
        RecipeError, MissingError: as `rows`.
    """
    found = hashlib.sha256()
    for values in _rows(str(name), key):
        found.update(msgspec.json.encode(values, enc_hook=str, order="sorted") + b"\n")
    return found.hexdigest()


def _rows(name: str, key: str) -> Iterator[dict[str, Any]]:
    data, labels = _loaded(name, key)
    for batch in data.iter(batch_size=_BATCH):
        for values in zip(*batch.values(), strict=True):
            row = dict(zip(batch, values, strict=True))
            yield row | {column: None if row[column] in (None, -1) else names[row[column]] for column, names in labels.items()}


@cache
def _loaded(name: str, key: str) -> tuple[Any, dict[str, list[str]]]:
    """The data set, memory-mapped, and the names of its class labels by column."""
    wanted = _parsed(name, key)
    require("datasets", "train", f"{key} {name}")
    with _quiet(), storage(), _translated(wanted, name, key):
        import datasets

        builder = datasets.load_dataset_builder(
            f"hf://datasets/{wanted.repo}",  # never a folder here that happens to have this name
            wanted.config,
            revision=wanted.revision,
        )
        _refuse_another_revision(builder, wanted, name, key)
        builder.download_and_prepare()
        data = builder.as_dataset(split=wanted.split)
        for column, feature in data.features.items():
            if getattr(feature, "decode", False) and not isinstance(feature, datasets.Json):
                data = data.cast_column(column, dataclasses.replace(feature, decode=False))
    labels = {column: feature.names for column, feature in data.features.items() if isinstance(feature, datasets.ClassLabel)}
    return data, labels


def _parsed(name: str, key: str) -> _Name:
    found = _NAME.fullmatch(name)
    if not found:
        raise RecipeError(f"{key}: {name!r} is no name of a data set", _FORM)
    options: dict[str, str] = {}
    for part in found[2].split(",") if found[2] else []:
        option, _, value = map(str.strip, part.partition("="))
        if option not in ("split", "config", "revision") or not value or option in options:
            raise RecipeError(f"{key}: {name!r} has {part.strip()!r}, expected split=, config= or revision=, each once", _FORM)
        options[option] = value
    return _Name(found[1], **options)


def _refuse_another_revision(builder: Any, wanted: _Name, name: str, key: str) -> None:
    """Without the hub the library takes the newest copy in its cache, whatever revision was asked for."""
    from datasets.packaged_modules.cache.cache import Cache

    have = str(builder.hash)
    if (
        wanted.revision is None
        or not isinstance(builder, Cache)
        or (_COMMIT.fullmatch(wanted.revision) and have.startswith(wanted.revision))
    ):
        return
    raise MissingError(
        f"{key}: {name}: the hub cannot be reached, and the newest copy in the cache is of revision {have}",
        "Give that revision, or go online",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No telemetry, no count of downloads, no bars, no notices."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import datasets
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True  # it was read from the environment when the library was imported
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    bars, loggers = datasets.is_progress_bar_enabled(), [getLogger("datasets"), getLogger("huggingface_hub")]
    levels = [logger.level for logger in loggers]
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


@contextmanager
def _translated(wanted: _Name, name: str, key: str) -> Iterator[None]:
    """What the library says about a data set that it could not load, in one line."""
    from httpx import TransportError
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        yield
    except SynthdistillError:
        raise
    except Exception as error:  # the library raises what each of its formats' readers raises
        chain = list(_causes(error))
        words = " ".join(str(error).split())[:300] or type(error).__name__
        away = (ConnectionError, TransportError, LocalEntryNotFoundError, OfflineModeIsEnabled)
        if any(isinstance(each, away) for each in chain):
            raise MissingError(
                f"{key}: {name} is on a hub that cannot be reached from here, and it is not in the cache",
                "Go online once, or point HF_HOME at a cache that holds it",
            ) from error
        if isinstance(error, HfHubHTTPError) and not isinstance(error, RepositoryNotFoundError):
            raise MissingError(f"{key}: {name}: the hub answers {words}", "Try again later, or set HF_TOKEN where it wants one") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise RecipeError(f"{key}: {name} cannot be loaded: {words}", f"Look at https://huggingface.co/datasets/{wanted.repo}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
