"""Learning from what goes on inside the teacher: hidden states, attention and the distances between rows, beside the tokens.

    near = Likeness(Match("models/teacher", None, even(3, of=6), layers=(3, 6)), weight=1.0)
    trained = fit(source, rows, validation, settings, folder=folder, progress=progress, features=near)

The teacher runs live beside the student, frozen, and reads the very ids that the student reads. B rows, T tokens, S and U the widths of
student and teacher, h and t their states at one token, W a learned projection [U, S]:

    hidden        ||W h - t||^2 / ||t||^2, the mean over tokens (padding left out) and pairs of layers: 0 where they are alike, 1 where the
                  projection says nothing. TinyBERT's hidden loss (Jiao et al. 2020, arXiv 1909.10351, eq. 8), in units of the teacher's
                  own states
    attention     KL(a_t || a_s), a the attention [B, T, T] of a layer, the mean over its heads (their number may differ); the mean over
                  tokens and pairs. That of MiniLM (Wang et al. 2020, arXiv 2002.10957, section 3.1), which compares head by head
    relational    l(d_t / m_t, d_s / m_s), d the distances between all rows of one forward pass, m their mean, l Huber's loss; the mean over
                  pairs of rows. RKD-D (Park et al. 2019, arXiv 1904.05068, section 3.2). A row is the mean of its last hidden states

Projections begin as the ridge regression of the teacher's states on the student's over the first rows, for at the learning rate of a
student a random one would hardly move; they are trained with the student, lie in its checkpoints, and are thrown away at the end.

The loss is worked out inside the forward of the student's backbone, so that whatever wraps the model sees one ordinary forward. Sums are
divided by the tokens of the whole batch, and the relational one by its rows, however many passes share it. Pairs of rows are those of one
pass: more, smaller passes have fewer of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdistill.errors import RecipeError, storage, unloadable
from synthdistill.training.render import Rendered
from synthdistill.training.smaller import chosen

PARTS = ("hidden", "attention", "relational")
NAME = "feature_projections"
"""Of the module that the student carries while it is trained, and of its file in a checkpoint."""
FIT_TOKENS = 16_384
"""Tokens over which the projections begin as a regression."""
FIT_ROWS = 16
"""Rows of a pass over them."""
RIDGE = 1e-3
"""Its penalty, as a part of the mean square of the student's states."""
FEWEST = 3
"""Rows of a pass that `relational` has something to say about: one distance is always its own mean."""
PASSED_ON = ("attention_mask", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
"""What the teacher is called with beside the ids, where the student is."""


@dataclass(frozen=True, slots=True)
class Match:
    """What is compared with which teacher."""

    teacher: str
    """A folder or hub id."""
    revision: str | None
    pairs: tuple[tuple[int, int], ...]
    """Layers of student and teacher, from 0. The last layer counts after the model's last norm."""
    layers: tuple[int, int]
    """How many layers student and teacher have."""
    attention: bool = False
    relational: bool = False


def even(layers: int, of: int) -> tuple[tuple[int, int], ...]:
    """Each of the student's layers with one of the teacher's, evenly spread, the first and the last among them; a single one with the last.

    >>> even(3, of=6)
    ((0, 0), (1, 2), (2, 5))
    """
    return tuple(enumerate(chosen(layers, of))) if layers > 1 else ((0, of - 1),)


class Likeness:
    """How near the student's inner states are to its teacher's, and the share of that in the loss."""

    def __init__(self, match: Match, weight: float = 1.0) -> None:
        self.match, self.weight = match, weight
        self.found: dict[str, Any] = {}
        """Sums over the last forward pass, with its `tokens` and `rows`."""
        self._teacher: Any = None
        self._projections: Any = None
        self._hooks: list[Any] = []
        self._watches = False

    def join(self, model: Any, backbone: Any, rows: Sequence[Rendered], at_once: int) -> None:
        """Let a student that is about to be trained carry the projections, and be watched. `at_once` rows are in a forward pass.

        Raises:
            RecipeError: the teacher cannot be loaded, or does not show its states; too few rows at once.
        """
        if self.match.relational and at_once < FEWEST:
            raise RecipeError(
                f"relational compares the rows of one forward pass, and no more than {at_once} of these fit in one: it takes {FEWEST}",
                "Set [train] micro_batch to that, max_length to less, or relational = false",
            )
        teacher = self._opened(model.device)
        highest, places = max(max(row.ids) for row in rows), teacher.get_input_embeddings().weight.shape[0]
        if highest >= places:
            raise RecipeError(
                f"the teacher {self.match.teacher} has {places} embeddings, the student's tokenizer makes the id {highest}",
                "Give the tokenizer of the teacher",
            )
        if self.match.attention:
            for each in (backbone, teacher):
                each.set_attn_implementation("eager")  # others do not say what they attended to
        model.add_module(NAME, _projections(backbone, teacher.base_model, self.match, rows))
        self._projections = getattr(model, NAME)
        self._hooks = [
            backbone.register_forward_pre_hook(self._asks, with_kwargs=True),
            backbone.register_forward_hook(self._reads, with_kwargs=True),
        ]

    def leave(self, model: Any) -> None:
        """Take the projections away: the student has its own weights and nothing else."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        delattr(model, NAME)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While the student's forward of a training step runs."""
        self._watches, self.found = True, {}
        try:
            yield
        finally:
            self._watches = False

    def share(self, tokens: Any, rows: Any) -> Any:
        """The part of the last pass in the loss of a batch of so many tokens and rows."""
        parts = [self.found[name] / (rows if name == "relational" else tokens) for name in PARTS if name in self.found]
        return self.weight * sum(parts[1:], parts[0])

    def save(self, folder: Path) -> None:
        """Put the projections in a checkpoint."""
        from safetensors.torch import save_file

        with storage(folder):
            save_file({name: value.detach().cpu().contiguous() for name, value in self._projections.state_dict().items()}, _file(folder))

    def load(self, folder: Path) -> None:
        """Take them from one."""
        from safetensors.torch import load_file

        self._projections.load_state_dict(load_file(_file(folder)))

    def _opened(self, device: Any) -> Any:
        """The teacher, loaded once: in bf16 on a GPU that has it, in fp32 elsewhere."""
        import torch
        from transformers import AutoModelForCausalLM

        if self._teacher is None:
            half = device.type == "cuda" and torch.cuda.is_bf16_supported()
            try:
                self._teacher = AutoModelForCausalLM.from_pretrained(
                    self.match.teacher, revision=self.match.revision, dtype=torch.bfloat16 if half else torch.float32
                )
            except Exception as error:  # a folder can be broken in as many ways as its formats have readers
                raise unloadable(f"the teacher {self.match.teacher}", error) from error
            self._teacher.eval().requires_grad_(False)
        return self._teacher.to(device)

    def _asks(self, backbone: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Before the student's backbone runs."""
        return (args, kwargs | _shown(self.match, 0)) if self._watches else None

    def _reads(self, backbone: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        """After it has."""
        import torch

        if not self._watches:
            return
        ids = args[0] if args else kwargs["input_ids"]
        with torch.no_grad():
            theirs = self._teacher.base_model(
                input_ids=ids, use_cache=False, **{name: kwargs[name] for name in PASSED_ON if name in kwargs}, **_shown(self.match, 1)
            )
        ours, told = (_states(self.match, side, shown) for side, shown in enumerate((output, theirs)))
        self.found = _sums(self.match, self._projections, ours, told, _rows(ids, kwargs))


def taught(kind: Any, near: Likeness) -> Any:
    """A trainer's class whose loss has the likeness in it while it trains, and whose checkpoints have the projections."""
    import torch

    class Taught(kind):  # type: ignore[misc]
        """Counts what the sums of a batch are divided by before its passes begin."""

        near_counts: Any = None

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
            samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
            counts = torch.tensor([_count(batch) for batch in samples], dtype=torch.long, device=device).reshape(-1, 2).sum(0)
            if self.args.average_tokens_across_devices and self.args.world_size > 1:
                counts = self.accelerator.gather(counts[None]).sum(0)
            self.near_counts = counts if items is not None else None
            return samples, items

        def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            if not self.model.training:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            with near.watching():
                loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            self._tell(near.found)
            if self.near_counts is None:
                return loss + near.share(near.found["tokens"], near.found["rows"])
            shared = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1  # as for the tokens' own loss
            return loss + near.share(*self.near_counts) * shared

        def _tell(self, found: dict[str, Any]) -> None:
            """What a pass adds to the curve, where the mean over the passes of a step is the mean over its tokens."""
            names = [name for name in PARTS if name in found]
            sums = torch.stack([found[name].detach().float() for name in (*names, "tokens", "rows")])
            *sums, tokens, rows = self.accelerator.gather(sums[None]).sum(0).tolist()
            passes = 1
            if self.near_counts is not None and self.args.average_tokens_across_devices:
                (tokens, rows), passes = self.near_counts.tolist(), self.current_gradient_accumulation_steps
            means = [passes * value / (rows if name == "relational" else tokens) for name, value in zip(names, sums, strict=True)]
            for name, value in (*zip(names, means, strict=True), ("features", sum(means))):
                self._metrics["train"][name].append(value)

        def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
            whole = self.model.state_dict() if state_dict is None else state_dict
            super()._save(output_dir, {name: value for name, value in whole.items() if NAME not in name})
            near.save(Path(output_dir or self.args.output_dir))

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            near.load(Path(resume_from_checkpoint))

    return Taught


def distances(ours: Any, theirs: Any) -> Any:
    """RKD-D of the rows of two matrices [n, S] and [n, U]: the mean over pairs of rows, 0 where there is none."""
    import torch

    if len(ours) < 2:
        return ours.sum() * 0.0
    scaled = [found / found.mean().clamp_min(1e-12) for found in (torch.nn.functional.pdist(ours), torch.nn.functional.pdist(theirs))]
    return torch.nn.functional.smooth_l1_loss(*scaled)


def divergence(ours: Any, theirs: Any) -> Any:
    """KL(teacher || student) in nats of attention [..., T], 0 where the teacher attends to nothing."""
    least = 1e-9  # the mean over heads of what softmax gave; where the student has nothing, so much
    return (theirs * (theirs.clamp_min(least).log() - ours.clamp_min(least).log())).sum(-1)


@dataclass(frozen=True, slots=True)
class _States:
    """What one side showed in a pass: for each pair the states of its layer [B, T, width] and its attention [B, heads, T, T], and the
    states after the last layer."""

    hidden: list[Any]
    attention: list[Any]
    last: Any


def _states(match: Match, side: int, output: Any) -> _States:
    """`side` is 0 for the student and 1 for the teacher."""
    layers = [pair[side] - match.layers[side] for pair in match.pairs]  # from the end: some models show what goes into the first as well
    shown, seen = output.get("hidden_states"), output.get("attentions")
    return _States([shown[layer] for layer in layers] if shown else [], [seen[layer] for layer in layers] if seen else [], output[0])


def _sums(match: Match, projections: Any, ours: _States, theirs: _States, rows: Any) -> dict[str, Any]:
    """Over one pass. `rows` [B, T] numbers the row that a token belongs to, -1 where it is padding."""
    import torch

    there = rows >= 0
    count = int(rows.max()) + 1
    found = {"tokens": there.sum(), "rows": there.new_tensor(count, dtype=torch.long)}
    if match.pairs:
        apart = [_apart(*each, there) for each in zip(projections, ours.hidden, theirs.hidden, strict=True)]
        found["hidden"] = torch.stack(apart).mean(0)
    if match.attention:
        seen = [
            divergence(one.float().mean(1), other.float().mean(1))[there].sum()
            for one, other in zip(ours.attention, theirs.attention, strict=True)
        ]
        found["attention"] = torch.stack(seen).mean(0)
    if match.relational:
        found["relational"] = distances(*(_means(each.last.float(), rows, count) for each in (ours, theirs))) * count
    return found


def _apart(projection: Any, ours: Any, theirs: Any, there: Any) -> Any:
    """The sum over tokens of ||W h - t||^2 / ||t||^2."""
    wanted = theirs[there].float()
    said = projection(ours[there].to(projection.weight.dtype)).float()
    return ((said - wanted).square().sum(-1) / wanted.square().sum(-1).clamp_min(1e-12)).sum()


def _means(states: Any, rows: Any, count: int) -> Any:
    """The mean state of each row, [count, width]."""
    there = rows >= 0
    sums = states.new_zeros(count, states.shape[-1]).index_add(0, rows[there], states[there])
    return sums / rows[there].bincount(minlength=count).clamp_min(1)[:, None]


def _rows(ids: Any, kwargs: dict[str, Any]) -> Any:
    """The number of the row that each token [B, T] belongs to, -1 for padding. Rows that are packed one behind the other begin where
    their positions do."""
    import torch

    mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
    if mask is None and positions is not None:
        return (positions.reshape(-1) == 0).cumsum(0).reshape(positions.shape) - 1
    rows = torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
    return rows if mask is None else rows.masked_fill(mask == 0, -1)


def _count(batch: dict[str, Any]) -> tuple[int, int]:
    """Tokens and rows of one pass."""
    rows = _rows(batch["input_ids"], batch)
    return int((rows >= 0).sum()), int(rows.max()) + 1


def _shown(match: Match, side: int) -> dict[str, Any]:
    """What a backbone has to show: the states of the layers that are compared, of no others where it can choose."""
    layers = sorted({pair[side] for pair in match.pairs})
    return ({"output_hidden_states": layers} if layers else {}) | ({"output_attentions": True} if match.attention else {})


def _projections(ours: Any, theirs: Any, match: Match, rows: Sequence[Rendered]) -> Any:
    """For each pair the linear map [U, S] that says the teacher's states best over the first rows, each token in units of its own state.

    Raises:
        RecipeError: a model does not show what is compared.
    """
    import torch

    sums: list[list[Any]] = [[0.0, 0.0] for _ in match.pairs]
    was = ours.training
    ours.eval()
    with torch.no_grad():
        for ids, mask in _batches(rows, ours.device) if match.pairs else ():
            shown = []
            for side, backbone in enumerate((ours, theirs)):
                output = backbone(input_ids=ids, attention_mask=mask, use_cache=False, **_shown(match, side))
                shown.append(_states(match, side, output))
                _refuse_silent(backbone, match, shown[-1])
            for total, one, other in zip(sums, shown[0].hidden, shown[1].hidden, strict=True):
                h, t = one[mask > 0].double(), other[mask > 0].double()
                per = t.square().sum(-1, keepdim=True).clamp_min(1e-12)
                total[0] += (h / per).T @ h
                total[1] += (h / per).T @ t
    ours.train(was)
    maps = torch.nn.ModuleList()
    for gram, cross in sums:
        penalty = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        linear = torch.nn.Linear(*cross.shape, bias=False, device=cross.device)
        linear.weight.data.copy_(torch.linalg.solve(gram + penalty, cross).T)
        maps.append(linear)
    return maps


def _refuse_silent(backbone: Any, match: Match, shown: _States) -> None:
    if match.pairs and not shown.hidden:
        raise RecipeError(f"{type(backbone).__name__} does not show the states of its layers", "Leave [train] method features out")
    if match.attention and not all(each is not None for each in shown.attention or [None]):
        raise RecipeError(f"{type(backbone).__name__} does not show what it attends to", "Leave attention out of [train] method features")


def _batches(rows: Sequence[Rendered], device: Any) -> Iterator[tuple[Any, Any]]:
    """Ids and mask [B, T] of the first rows."""
    import torch

    tokens = 0
    for first in range(0, len(rows), FIT_ROWS):
        some = rows[first : first + FIT_ROWS]
        width = max(map(len, some))
        ids = torch.tensor([row.ids + [0] * (width - len(row)) for row in some], device=device)
        yield ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in some], device=device)
        tokens += sum(map(len, some))
        if tokens >= FIT_TOKENS:
            return


def _file(folder: Path) -> Path:
    return folder / f"{NAME}.safetensors"
