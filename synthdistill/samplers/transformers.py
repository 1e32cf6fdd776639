"""A model in this process through transformers: the sampler that needs nothing else, on a CPU or one GPU.

    with TransformersSampler("models/teacher", "teacher", Workload()) as sampler:
        for answer in sampler.sample(requests): ...

Rows are taken in windows, sorted by length and asked in batches. A batch is generated in stretches: when half of its rows are done,
`generate` returns, those rows leave the batch (and its cache), and the rest goes on, so that one long answer does not keep 127 short
ones computing.

A row above temperature 0 is drawn by the Gumbel-max trick (Gumbel 1954; Maddison, Tarlow and Minka 2014, "A* sampling"): the argmax of
log p + g with g = -log(-log u) is a draw from p. Its noise comes from a generator of its own, so a row's answer does not depend on
its batch.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from synthdistill.errors import require
from synthdistill.records import Completion, Failure, Prompt, Usage
from synthdistill.samplers.base import Closing, Request, Workload, row_seed
from synthdistill.samplers.tokenizer import ChatTokenizer, cut, is_local, loading
from synthdistill.thinking import apart

BATCH = 128
"""Rows of a batch where the recipe leaves it open. For a small Llama on two cores 64 and 128 were alike and 256 was slower."""


WINDOW = 64
"""Batches of rows that are sorted by length together."""


@dataclass(slots=True)
class _Row:
    """One answer that is being made."""

    request: Request
    prompt: list[int]
    room: int
    generated: list[int] = field(default_factory=list)
    generator: Any = None
    done: bool = False
    text: str | None = None
    """Set where a stop string cut the answer."""


class TransformersSampler(Closing):
    """A local folder or hub id.

    Raises:
        MissingError: transformers or torch is not installed.
        RecipeError: the folder holds no model, tokenizer or chat template.
    """

    def __init__(self, path: str, model_id: str, workload: Workload, revision: str | None = None) -> None:
        for package in ("torch", "transformers"):
            require(package, "train", "a model in this process (kind = transformers or builtin)")
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig

        self.model_id = model_id
        self.batch = workload.concurrency or BATCH
        self.tokenizer = ChatTokenizer(path, revision)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with loading(path):
            model = AutoModelForCausalLM.from_pretrained(
                path, revision=revision, local_files_only=is_local(path), dtype="auto" if device == "cuda" else torch.float32
            )
            _unpack(model)
        self.model: Any = model.to(device).eval()
        self.ends = _ends(model.generation_config.eos_token_id, self.tokenizer.bare.eos_token_id)
        pad = self.tokenizer.bare.pad_token_id
        self.pad: int = pad if pad is not None else next(iter(self.ends), 0)
        # A model's own generation_config may hold a temperature or a repetition penalty; the recipe's sampling is the only one here.
        model.generation_config = GenerationConfig(eos_token_id=sorted(self.ends) or None, pad_token_id=self.pad)
        self.shrinks = _shrinks(model)

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion | Failure]:
        waiting = iter(requests)
        while window := list(islice(waiting, WINDOW * self.batch)):
            yield from self._window(window)

    def tokens(self, prompt: Prompt) -> list[int]:
        """The ids that the model reads for a prompt."""
        return self.tokenizer.ids(prompt)

    def close(self) -> None:
        self.model = None

    def _window(self, requests: list[Request]) -> Iterator[Completion | Failure]:
        rows: list[_Row] = []
        for request in requests:
            ids = self.tokenizer.checked_ids(request)
            if isinstance(ids, Failure):
                yield ids
            else:
                rows.append(_Row(request, ids, self.tokenizer.room(request, ids)))
        rows.sort(key=lambda row: (_stops(row), len(row.prompt)))
        start = 0
        while start < len(rows):
            batch = [row for row in rows[start : start + self.batch] if _stops(row) == _stops(rows[start])]
            start += len(batch)
            yield from self._generate(batch)

    def _generate(self, rows: list[_Row]) -> Iterator[Completion]:
        """One batch, in stretches; rows come out when the stretch ends in which they were done."""
        import torch

        started = time.perf_counter()
        width = max(len(row.prompt) for row in rows)
        ids = torch.tensor([[self.pad] * (width - len(row.prompt)) + row.prompt for row in rows], device=self.model.device)
        mask = torch.tensor([[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows], device=self.model.device)
        for row in rows:
            if row.request.sampling.temperature > 0:
                row.generator = torch.Generator(self.model.device).manual_seed(row_seed(row.request))
        cache = None
        while rows:
            ids, cache = self._stretch(rows, ids, mask, cache)
            seconds = time.perf_counter() - started
            yield from (self._completion(row, seconds) for row in rows if row.done)
            keep = [place for place, row in enumerate(rows) if not row.done]
            rows = [rows[place] for place in keep]
            if rows:
                ids, mask = ids[keep], mask[keep]
                mask = torch.cat([mask, mask.new_ones(len(keep), ids.shape[1] - mask.shape[1])], 1)
                cache.batch_select_indices(torch.tensor(keep, device=ids.device))

    def _stretch(self, rows: list[_Row], ids: Any, mask: Any, cache: Any) -> tuple[Any, Any]:
        """Generate until half of the rows are done, or one has used up its room. Returns ids [rows, width] and the cache."""
        import torch

        before = ids.shape[1]
        room = min(row.room - len(row.generated) for row in rows) if self.shrinks else max(row.room for row in rows)
        watch = _Watch(self, rows, before, len(rows) // 2 if self.shrinks and len(rows) > 1 else len(rows))
        with torch.inference_mode():
            found = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                max_new_tokens=room,
                do_sample=False,
                logits_processor=[_Draw(rows, ids.device)] if any(row.generator for row in rows) else [],
                stopping_criteria=[watch],
                return_dict_in_generate=True,
            )
        for row, new in zip(rows, found.sequences[:, before:].tolist(), strict=True):
            self._settle(row, new)
        return found.sequences, found.past_key_values

    def _settle(self, row: _Row, new: list[int]) -> None:
        """Add a stretch's tokens to a row, up to where it ends."""
        for token in new[: row.room - len(row.generated)]:
            row.generated.append(token)
            if token in self.ends:
                row.done = True
                return
            if row.request.sampling.stop:
                row.text = cut(self.tokenizer.text(row.generated), row.request.sampling.stop)
                if row.text is not None:
                    row.done = True
                    return
        row.done = len(row.generated) >= row.room

    def _completion(self, row: _Row, seconds: float) -> Completion:
        ended = row.text is not None or (bool(row.generated) and row.generated[-1] in self.ends)
        found = Completion(
            id=row.request.id,
            prompt_id=row.request.prompt.id,
            source_ids=row.request.prompt.source_ids,
            index=row.request.index,
            text=self.tokenizer.text(row.generated) if row.text is None else row.text,
            finish="stop" if ended else "length",
            model=self.model_id,
            usage=Usage(input=len(row.prompt), output=len(row.generated)),
            latency_s=round(seconds, 4),
            token_ids=row.generated,
        )
        return apart(found, opened=self.tokenizer.opened(row.prompt))


class _Watch:
    """A stopping criterion of `generate`: ends the stretch for all when `enough` rows are done."""

    def __init__(self, sampler: TransformersSampler, rows: list[_Row], before: int, enough: int) -> None:
        import torch

        self.sampler, self.rows, self.before, self.enough = sampler, rows, before, enough
        self.done = torch.zeros(len(rows), dtype=torch.bool, device=sampler.model.device)
        self.ends = torch.tensor(sorted(sampler.ends), dtype=torch.long, device=sampler.model.device)

    def __call__(self, ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        self.done |= torch.isin(ids[:, -1], self.ends)
        if self.rows[0].request.sampling.stop:
            for place in (~self.done).nonzero().flatten().tolist():
                row = self.rows[place]
                said = row.generated + ids[place, self.before :].tolist()
                self.done[place] = cut(self.sampler.tokenizer.text(said), row.request.sampling.stop) is not None
        return torch.ones_like(self.done) if int(self.done.sum()) >= self.enough else self.done


class _Draw:
    """A logits processor after which the argmax of a row is a draw from its tempered, top-p-cut distribution."""

    def __init__(self, rows: list[_Row], device: Any) -> None:
        import torch

        self.places = [place for place, row in enumerate(rows) if row.generator is not None]
        self.generators = [rows[place].generator for place in self.places]
        samplings = [rows[place].request.sampling for place in self.places]
        self.temperatures = torch.tensor([sampling.temperature for sampling in samplings], device=device)[:, None]
        self.top_ps = torch.tensor([sampling.top_p for sampling in samplings], device=device)[:, None]

    def __call__(self, ids: Any, scores: Any) -> Any:
        """Scores [rows, vocabulary] in and out; rows at temperature 0 stay as they are."""
        import torch

        logprobs = (scores[self.places] / self.temperatures).log_softmax(-1)
        if bool((self.top_ps < 1).any()):
            logprobs = _nucleus(logprobs, self.top_ps)
        noise = torch.empty_like(logprobs)
        for place, generator in enumerate(self.generators):
            noise[place].exponential_(generator=generator)
        scores[self.places] = logprobs - noise.log()  # -log of an exponential is Gumbel
        return scores


def _nucleus(logprobs: Any, top_ps: Any) -> Any:
    """Log-probabilities [rows, vocabulary], -inf outside the smallest set whose mass reaches top_p (Holtzman et al. 2020)."""
    ordered, places = logprobs.sort(dim=-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    return logprobs.scatter(-1, places, ordered.masked_fill(before >= top_ps, float("-inf")))


def _unpack(model: Any) -> None:
    """Weights of a quantised model as numbers; else the first answer would wait for it, and draw a bar."""
    if hasattr(model, "ct_decompress_hook"):
        model.hf_quantizer.compressor.decompress_model(model)


def _stops(row: _Row) -> list[str]:
    return row.request.sampling.stop or []


def _ends(of_model: int | list[int] | None, of_tokenizer: int | None) -> frozenset[int]:
    """Ids that end a turn: those of the model's generation config and the tokenizer's own, as vLLM does."""
    of_model = [of_model] if isinstance(of_model, int) else of_model or []
    return frozenset(of_model) | ({of_tokenizer} if of_tokenizer is not None else set())


def _shrinks(model: Any) -> bool:
    """Whether rows can leave the model's cache; states of linear attention cannot be cut by row."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in DynamicCache(config=model.config).layers)
