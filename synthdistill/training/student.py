"""The trained student on disk: a folder that transformers and vLLM serve as it is.

write(model, Source("models/base", tokenizer, served), stored=torch.float32, folder=run / "train")

Weights, tokenizer, the chat template that it was trained with, and a generation config that stops at the end of turn it has learned.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdistill.errors import unloadable
from synthdistill.shards import sync_folder
from synthdistill.training.qlora import merged
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


def layers(model: str, revision: str | None = None) -> int:
    """How many layers a model has.

    Raises:
        RecipeError, MissingError: its config cannot be loaded.
    """
    return int(_config(model, revision).get_text_config().num_hidden_layers)


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


def generation_config(student: Path, end_of_turn: str | None, *, temperature: float, top_p: float) -> dict[str, Any]:
    """generation_config.json of a student that is served: the tokens that end its turn (those that it was saved with, the one that it has
    learned, the tokenizer's own), the padding, and the sampling that it was measured with.

    At temperature 0 it is top_k = 1: transformers would understand do_sample = false, but vLLM takes no notice of that and would draw at
    1.0, and a temperature of 0 is one that transformers does not save. At any other, top_k = 0 takes away transformers' own 50.

    Raises:
        RecipeError, MissingError: the tokenizer cannot be loaded.
    """
    tokenizer, _ = open_tokenizer(str(student))
    saved = json.loads((student / "generation_config.json").read_bytes())
    known = saved.get("eos_token_id")
    learned = tokenizer.convert_tokens_to_ids(end_of_turn) if end_of_turn is not None else None
    ends = {known} if isinstance(known, int) else set(known or ())
    ends |= {token for token in (tokenizer.eos_token_id, learned) if token is not None}
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else saved.get("pad_token_id")
    drawn = {"top_k": 1} if temperature == 0 else {"temperature": temperature, "top_p": top_p, "top_k": 0}
    first = {"bos_token_id": tokenizer.bos_token_id} if tokenizer.bos_token_id is not None else {}
    return first | {"do_sample": True, "eos_token_id": sorted(ends), "pad_token_id": min(ends) if pad is None else pad} | drawn
