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

from pydantic import Field, field_validator

from synthdistill.budget import Price, Purse
from synthdistill.records import Completion, Failure, Prompt, digest
from synthdistill.sampling import Sampling as Sampling
from synthdistill.settings import Settings, how

OURS = {
    "model": "[teacher] model",
    "messages": "the prompt",
    "tools": "the prompt",
    "n": "[generate] samples",
    "temperature": "[generate] and [eval] sampling",
    "top_p": "[generate] and [eval] sampling",
    "max_tokens": "[generate] and [eval] sampling",
    "stop": "[generate] and [eval] sampling",
    "seed": "[generate] and [eval] sampling",
    "response_format": "[generate] response",
    "structured_outputs": "[generate] response",
    "stream": "the sampler, which reads whole answers",
}
"""Fields of a chat body that are no teacher's extra ones, and what sets them."""


class Terms(Settings):
    """What the teacher's licence says about training on its answers; shown in the report."""

    licence: str
    training_allowed: bool
    reviewed: date | None = None


class _Model(Settings):
    """What all kinds share."""

    terms: Terms | None = how(None)
    price: Price | None = how(None)


class _Served(_Model):
    """A model behind an address."""

    model: str = Field(min_length=1)
    api_key_env: str | None = how(None, min_length=1)
    revision: str | None = None
    tokenizer: str | None = how(None, min_length=1)
    """A model folder or hub id whose tokenizer a dry run counts with."""
    extra: dict[str, Any] | None = None
    """Fields that go into each chat body as they are, as `reasoning_effort`."""

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, extra: dict[str, Any] | None) -> dict[str, Any] | None:
        for name in extra or {}:
            if name in OURS:
                raise ValueError(f"{name} is set by {OURS[name]}; leave it out")
        return extra


class ApiModel(_Served):
    """Any OpenAI-compatible server."""

    kind: Literal["api"]
    base_url: str | Annotated[list[str], Field(min_length=1)] = how("http://localhost:8000/v1")
    """Several addresses of the same model share the load; one that is dead is left out and tried again later."""
    rpm: float | None = how(None, gt=0)
    """Requests a minute that each address may be asked at most; what its headers allow is obeyed without."""
    tpm: float | None = how(None, gt=0)
    """Tokens a minute, in and out."""


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


class BatchModel(_Served):
    """The batch API of a provider (/v1/files and /v1/batches): about half the price, an answer within hours."""

    kind: Literal["batch"]
    base_url: str = how("http://localhost:8000/v1")
    batch: BatchLimits = how(BatchLimits())

    def what(self) -> dict[str, Any]:
        """As of the same model asked live: the answers are the same ones, and what a batch left may be asked live."""
        return super().what() | {"kind": "api"}

    def live(self) -> ApiModel:
        """The same model, asked row by row."""
        same = {name: getattr(self, name) for name in (*_Served.model_fields, "base_url")}
        return ApiModel(kind="api", **same)


class TransformersModel(_Model):
    """A local folder or hub id, through transformers in this process."""

    kind: Literal["transformers"]
    model: str = Field(min_length=1)
    revision: str | None = None


class VllmModel(_Model):
    """A local folder or hub id, through a vLLM engine in a child process.

    `max_model_len` is *what*: it decides which prompts are too long and where an answer is cut. Unlike `dtype`, `quantization` and `lora`
    it is no part of an answer's id, so that a run with a larger one takes over what was answered and asks only for what was too long.
    """

    kind: Literal["vllm"]
    model: str = Field(min_length=1)
    revision: str | None = None
    lora: str | None = Field(None, min_length=1)
    """A folder of a PEFT adapter, or a hub id."""
    quantization: str | None = Field(None, min_length=1)
    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = None
    max_model_len: int | None = Field(None, ge=1)
    tensor_parallel: int = how(1, ge=1)
    gpu_memory_utilization: float | None = how(None, gt=0, le=1)
    engine: dict[str, Any] = how({})
    """Any other argument of vLLM's engine; it wins over the keys above."""

    @field_validator("engine")
    @classmethod
    def _names_no_model(cls, engine: dict[str, Any]) -> dict[str, Any]:
        """What is fingerprinted as one model must not be answered by another."""
        for name in ("model", "revision", "tokenizer"):
            if name in engine:
                raise ValueError(f"should not hold {name}, which [teacher] decides")
        return engine

    def arguments(self) -> dict[str, Any]:
        """The engine arguments that the keys stand for, by vLLM's names; those that were not set are left to the machine."""
        named = {
            "quantization": self.quantization,
            "dtype": self.dtype,
            "max_model_len": self.max_model_len,
            "tensor_parallel_size": self.tensor_parallel,
            "gpu_memory_utilization": self.gpu_memory_utilization,
        }
        return {name: value for name, value in named.items() if value is not None} | self.engine


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
    extra: dict[str, Any] | None = None
    """What else it is asked with each time; part of the id only where there is some."""


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
    more = [identity.extra] if identity.extra else []
    return digest(prompt.messages, prompt.tools, identity.id, identity.revision, sampling.what(), response, index, *more)


def row_seed(request: Request) -> int:
    """A seed of 63 bits for one row, so that what is drawn does not depend on the batch it is drawn in."""
    return int(digest(request.sampling.seed, request.id)[:15], 16)
