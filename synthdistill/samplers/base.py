"""What every model looks like from above: requests in, completions or failures out, in any order.

    with open_sampler(model, base=run.base, workload=workload) as sampler:
        for answer in sampler.sample(requests):
            journal.append(answer)

The tables `[teacher]` (and, inside the package, the student) are one of the classes below, chosen by `kind`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import Field

from synthdistill.budget import Price, Purse
from synthdistill.records import Completion, Failure, Prompt, digest
from synthdistill.settings import Settings, how


class Sampling(Settings):
    """How an answer is drawn. Temperature 0 is greedy; `seed` fixes the draw of every row, whatever the batch."""

    temperature: float = Field(0.0, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(512, ge=1, le=1_000_000)
    stop: list[Annotated[str, Field(min_length=1)]] | None = None
    seed: int = Field(0, ge=0, lt=2**63)


class Terms(Settings):
    """What the teacher's licence says about training on its answers; shown in the report."""

    licence: str
    training_allowed: bool
    reviewed: date | None = None


class _Model(Settings):
    """What all kinds share."""

    terms: Terms | None = how(None)
    price: Price | None = how(None)


class ApiModel(_Model):
    """Any OpenAI-compatible server."""

    kind: Literal["api"]
    model: str = Field(min_length=1)
    base_url: str = how("http://localhost:8000/v1")
    api_key_env: str | None = how(None, min_length=1)
    revision: str | None = None


class BatchLimits(Settings):
    """What a provider's batch API takes, and how often it is asked how far it is."""

    max_requests: int = how(50_000, ge=1)
    """Rows of one batch."""
    max_bytes: int = how(200_000_000, ge=1_000)
    """Bytes of one batch's input file."""
    window: str = how("24h", pattern=r"^[1-9][0-9]*[hd]$")
    """Within which the provider promises to be done; then the batch expires."""
    poll_s: float = how(60.0, gt=0, le=3600)
    """The longest wait between two looks at the open batches."""
    at_once: int = how(4, ge=1)
    """Batches that are open at the same time."""


class BatchModel(_Model):
    """The batch API of a provider (/v1/files and /v1/batches): about half the price, an answer within hours."""

    kind: Literal["batch"]
    model: str = Field(min_length=1)
    base_url: str = how("http://localhost:8000/v1")
    api_key_env: str | None = how(None, min_length=1)
    revision: str | None = None
    batch: BatchLimits = how(BatchLimits())

    def what(self) -> dict[str, Any]:
        """As of the same model asked live: the answers are the same ones, and what a batch left may be asked live."""
        return super().what() | {"kind": "api"}

    def live(self) -> ApiModel:
        """The same model, asked row by row."""
        return ApiModel(
            kind="api", model=self.model, base_url=self.base_url, api_key_env=self.api_key_env, revision=self.revision, price=self.price
        )


class TransformersModel(_Model):
    """A local folder or hub id, through transformers in this process."""

    kind: Literal["transformers"]
    model: str = Field(min_length=1)
    revision: str | None = None


class VllmModel(_Model):
    """A local folder or hub id, through a vLLM engine in a child process."""

    kind: Literal["vllm"]
    model: str = Field(min_length=1)
    revision: str | None = None
    engine: dict[str, Any] = how({})
    """Arguments of vLLM's engine, as `tensor_parallel_size`."""


class BuiltinModel(_Model):
    """The small teacher that comes with the package, through transformers."""

    kind: Literal["builtin"]


class ScriptedModel(_Model):
    """A fake that answers from a file of {"match", "text"} lines; for tests and rehearsals."""

    kind: Literal["scripted"]
    answers: str = Field(min_length=1)
    """A JSONL file: the first line whose `match` occurs in the last message answers; a line without `match` always does."""


Model = Annotated[ApiModel | BatchModel | TransformersModel | VllmModel | BuiltinModel | ScriptedModel, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """What an answer must look like: `value` is a JSON schema, a regular expression for the whole text, or the texts to choose from."""

    kind: Literal["json_schema", "regex", "choice"]
    value: Any


@dataclass(frozen=True, slots=True)
class Request:
    """One answer that is wanted: sample number `index` of a prompt. `id` is the completion's id."""

    id: str
    prompt: Prompt
    index: int
    sampling: Sampling
    response: ResponseFormat | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """How a sampler works, never what it answers: the `[run]` table's part of it."""

    concurrency: int | None = None
    """Requests in flight or rows in a batch; None lets the sampler choose."""
    timeout_s: float = 600.0
    note: Callable[[str], None] = lambda line: None
    """Told, from any thread, what a person who waits wants to know."""
    purse: Purse | None = None
    """What may be spent; samplers that cost money ask it before each request."""
    folder: Path | None = None
    """Where a sampler may keep state that must outlive the process."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model answers: part of every completion's id. `revision` is a content hash for a local folder."""

    id: str
    revision: str | None
    folder: Path | None = None
    """Where its weights and tokenizer lie, for a local one."""


class Sampler(Protocol):
    """A model that answers. Opened once, used for many calls, closed at the end."""

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion | Failure]:
        """Answer every request once, each as it is ready, in any order. Requests are taken as there is room for them, never all at once.

        Raises:
            SamplerError, MissingError: the model cannot answer at all. A row that cannot be answered is a `Failure`.
        """
        ...

    def close(self) -> None:
        """Let go of what was opened; safe to call twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Closing:
    """The context manager of every sampler: `close` at the end."""

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def completion_id(prompt: Prompt, identity: Identity, sampling: Sampling, index: int, response: dict[str, Any] | None = None) -> str:
    """The id of an answer: by content, so that the same answer is never asked for, or paid for, twice."""
    return digest(prompt.messages, prompt.tools, identity.id, identity.revision, sampling.what(), response, index)


def row_seed(request: Request) -> int:
    """A seed of 63 bits for one row, so that what is drawn does not depend on the batch it is drawn in."""
    return int(digest(request.sampling.seed, request.id)[:15], 16)
