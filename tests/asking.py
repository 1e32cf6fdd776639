"""Short ways to make requests, for the tests of samplers."""

from synthdistill.records import Prompt, digest
from synthdistill.samplers.base import Request, Sampling


def prompt(text: str) -> Prompt:
    """A prompt of one user message."""
    messages = [{"role": "user", "content": text}]
    return Prompt(digest(messages), [text], messages, text, "train")


def request(text: str, index: int = 0, **sampling) -> Request:
    """A request for one answer to one user message."""
    asked = prompt(text)
    return Request(digest(asked.id, index, sampling), asked, index, Sampling(**{"max_tokens": 24, **sampling}))
