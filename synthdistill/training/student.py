"""The trained student on disk: a folder that transformers and vLLM serve as it is.

write(model, Source("models/base", tokenizer, served), stored=torch.float32, folder=run / "train")

Weights, tokenizer, the chat template that it was trained with, and a generation config that stops at the end of turn it has learned.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdistill.errors import unloadable
from synthdistill.shards import sync_folder
from synthdistill.training.quantised import merged
from synthdistill.training.render import Served


@dataclass(frozen=True, slots=True)
class Source:
    """Where a student starts: a folder or hub id, its tokenizer, and how it is asked."""

    model: str
    tokenizer: Any
    served: Served


def open_tokenizer(model: str, revision: str | None = None) -> tuple[Any, int | None]:
    """The tokenizer of a folder or hub id, and the tokens that the model's context holds (None where it sets no limit).

    Raises:
        RecipeError, MissingError: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    config = _config(model, revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
    except Exception as error:  # a folder can be broken in as many ways as its formats have readers
        raise unloadable(f"the model {model}", error) from error
    return tokenizer, getattr(config.get_text_config(), "max_position_embeddings", None)


def places(model: str, revision: str | None = None) -> int:
    """The rows of a model's output layer: at least one for each id, and often some more as padding.

    Raises:
        RecipeError, MissingError: its config cannot be loaded.
    """
    return int(_config(model, revision).get_text_config().vocab_size)


def _config(model: str, revision: str | None) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model, revision=revision)
    except Exception as error:  # as above
        raise unloadable(f"the model {model}", error) from error


def write(model: Any, source: Source, stored: Any, folder: Path, *, quantised: bool = False) -> None:
    """Put `student/` in place whole, its weights in the type `stored`. An adapter is kept as `adapter/` and merged into the student; where
    it was learned on `quantised` weights, into those that were rounded, read once more."""
    if hasattr(model, "merge_and_unload"):
        place(folder / "adapter", lambda beside: model.save_pretrained(beside))
        model = merged(source.model, stored, folder / "adapter") if quantised else model.merge_and_unload()
    model = model.to(stored)
    model.config.use_cache = True
    known = model.generation_config.eos_token_id
    ends = {known} if isinstance(known, int) else set(known or ())
    model.generation_config.eos_token_id = sorted(ends | {source.served.end_of_turn})
    source.tokenizer.chat_template = source.served.template
    for local in ("is_local", "local_files_only"):  # how it was loaded here, which transformers would write down
        source.tokenizer.init_kwargs.pop(local, None)

    def save(beside: Path) -> None:
        model.save_pretrained(beside)
        source.tokenizer.save_pretrained(beside)

    place(folder / "student", save)


def place(folder: Path, save: Any) -> None:
    """Write a folder beside its name, sync it, rename it; one that a killed process left is replaced."""
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save(beside)
    for path in beside.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    sync_folder(folder.parent)
