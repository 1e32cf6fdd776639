"""From a prompt to the ids a model reads, and back: one way for every sampler that holds weights, so that they see the same ids.

tokenizer = ChatTokenizer("models/teacher")
tokenizer.ids(prompt)
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synthdistill.errors import RecipeError, unloadable
from synthdistill.hushed import hushed
from synthdistill.records import Failure, Prompt, with_parsed_arguments
from synthdistill.samplers.base import Request
from synthdistill.thinking import marks, opening


class ChatTokenizer:
    """The tokenizer and chat template of a model folder or hub id.

    Raises:
        RecipeError: there is no tokenizer, or it has no chat template.
    """

    def __init__(self, path: str, revision: str | None = None) -> None:
        from transformers import AutoConfig, AutoTokenizer

        with loading(path):
            self.bare: Any = AutoTokenizer.from_pretrained(path, revision=revision, local_files_only=is_local(path), padding_side="left")
            config = AutoConfig.from_pretrained(path, revision=revision, local_files_only=is_local(path)).get_text_config()
        self.bare.model_max_length = sys.maxsize  # `context` is what counts; the tokenizer would only print a notice
        if self.bare.chat_template is None:
            raise RecipeError(
                f"the tokenizer of {path} has no chat template", "Give a chat (instruct) model, or add chat_template.jinja to its folder"
            )
        special = {number: token.content for number, token in self.bare.added_tokens_decoder.items() if token.special}
        kept = marks(special.values())
        self._unseen = frozenset(number for number, token in special.items() if token not in kept) if kept else None
        """Ids that are left out of a text; None where that is every special token."""
        self.context: int | None = getattr(config, "max_position_embeddings", None)
        """Tokens that prompt and answer may have together, None where the model sets no limit."""

    def ids(self, prompt: Prompt) -> list[int]:
        """The ids of the messages and of the words that open the answer."""
        messages = [with_parsed_arguments(message) for message in prompt.messages]
        found: list[int] = self.bare.apply_chat_template(
            messages, tools=prompt.tools, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return found

    def checked_ids(self, request: Request) -> list[int] | Failure:
        """The ids of a request's prompt, or why the model cannot be asked with it."""
        try:
            ids = self.ids(request.prompt)
        except Exception as error:  # a model's own template raises what it likes: wrong order of roles, a missing field
            return failure(request, "template", f"the model's chat template cannot render these messages: {error}")
        if not ids:
            return failure(request, "empty", "the model's chat template makes no tokens of these messages")
        if self.context is not None and len(ids) >= self.context:
            return failure(request, "too_long", f"the prompt has {len(ids)} tokens, the model reads {self.context} with its answer")
        return ids

    def room(self, request: Request, ids: list[int]) -> int:
        """New tokens that may follow: `max_tokens`, or what the context leaves of it."""
        wanted = request.sampling.max_tokens
        return wanted if self.context is None else min(wanted, self.context - len(ids))

    def opened(self, ids: list[int]) -> bool:
        """Whether a prompt ends with the mark that opens a model's thinking."""
        return bool(opening(self.bare.decode(ids[-8:])))

    def text(self, ids: list[int]) -> str:
        """The words of an answer, without special tokens other than the marks of thinking."""
        if self._unseen is not None:
            ids = [number for number in ids if number not in self._unseen]
        found: str = self.bare.decode(ids, skip_special_tokens=self._unseen is None, clean_up_tokenization_spaces=False)
        return found


def failure(request: Request, kind: str, message: str) -> Failure:
    """A request that no later start can answer either."""
    return Failure(request.id, request.prompt.id, request.index, kind, message, attempts=1, retryable=False)


def is_local(path: str) -> bool:
    """Whether a model's name is a folder here; then nothing is looked up on a hub."""
    return Path(path).is_dir()


def cut(text: str, stop: list[str] | None) -> str | None:
    """The text before the first stop string in it, None where there is none."""
    places = [place for place in (text.find(word) for word in stop or [] if word) if place >= 0]
    return text[: min(places)] if places else None


@contextmanager
def loading(path: str) -> Iterator[None]:
    """Load a part of a model without transformers' bars and notices; what it raises becomes a `RecipeError` or `MissingError`."""
    with hushed():
        try:
            yield
        except Exception as error:  # a folder can be broken in as many ways as its formats have readers
            raise unloadable(f"the model {path}", error) from error
