"""Learning on one's own answers: the student answers, and its teacher says of each of these tokens what it would have said there.

    tutor = Tutor(Weights("models/teacher"), prompts, end_of_turn=2, size=512, max_tokens=64)
    trained = fit(source, rows, validation, settings, folder=folder, progress=progress, tutor=tutor)

On-policy distillation (Agarwal et al. 2024, arXiv 2306.13649) by TRL's trainers, with a teacher in this process or behind a vLLM server.
TRL's are the sampling and the divergence. Ours, because a student must be taught as it is served:

* prompts are ids that are there already, the teacher's own before the teacher, so that neither reads a template that it is not served with;
* an answer ends with the end of turn that is served, which is learned; one that was cut at `max_tokens` teaches nothing;
* ids that only pad an output layer are neither drawn nor compared;
* draws depend on seed and step alone, so that a training that was killed ends with the same student;
* validation is one forward pass over the teacher's answers, as for every method, and no sampling.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain, cycle, islice
from types import SimpleNamespace
from typing import Any

from synthdistill.errors import unloadable
from synthdistill.records import digest
from synthdistill.training.batches import Order
from synthdistill.training.foreign import Foreign, foreign_class
from synthdistill.training.render import Rendered
from synthdistill.training.sweep import agreement
from synthdistill.training.teacher_server import Server, client


@dataclass(frozen=True, slots=True)
class Weights:
    """A teacher in this process: a folder or hub id."""

    model: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Tutor:
    """Who looks over the student's shoulder, and how."""

    teacher: Weights | Server
    prompts: Sequence[list[int]]
    """What the teacher reads before an answer, in the order of the rows."""
    end_of_turn: int
    size: int
    """Ids that both mean the same by; what lies above is padding."""
    max_tokens: int
    """Of an answer."""
    beta: float = 1.0
    """0 is KL(teacher || student), 1 is KL(student || teacher), between them lies Jensen-Shannon's."""
    temperature: float = 1.0
    """Of the draws and of both distributions."""
    foreign: Foreign | None = None
    """The teacher's own tokenizer, where it is another; `size` is then of the student's ids alone."""

    @property
    def longest(self) -> int:
        """Ids that the teacher reads at most."""
        return max(map(len, self.prompts)) + self.max_tokens

    def dataset(self, rows: Sequence[Rendered]) -> Any:
        """What the trainer asks: no answer is in it."""
        from datasets import Dataset

        return Dataset.from_dict({"prompt": [row.prompt for row in rows], "teacher_prompt": list(self.prompts)})

    def maker(self, model: Any, plain: Any) -> Any:
        """What makes a trainer for a student, but for its rows. `plain` are the arguments of training that every method shares.

        Raises:
            RecipeError, MissingError: the teacher cannot be loaded, or its server does not answer.
        """
        _end_with(model, self.end_of_turn)
        places = model.get_input_embeddings().weight.shape[0]
        own = {
            "beta": self.beta,
            "temperature": self.temperature,
            "max_completion_length": self.max_tokens,
            "generation_kwargs": {"suppress_tokens": list(range(self.size, places))} if places > self.size else None,
            "eval_on_start": plain.eval_strategy != "no",
            "remove_unused_columns": False,
        }
        if isinstance(self.teacher, Server):
            from trl.experimental.server_distillation import ServerDistillationConfig

            own |= {"teacher_model_server_url": self.teacher.url, "loss_top_k": self.teacher.top_k}
            arguments = _arguments(ServerDistillationConfig, plain, own)
            return functools.partial(_behind_server(), tutor=self, args=arguments, client=client(self.teacher))
        from trl import DistillationConfig, DistillationTrainer

        given = {"args": _arguments(DistillationConfig, plain, own), "teacher_model": self._opened(model)}
        kind = _taught(DistillationTrainer)
        return functools.partial(foreign_class(kind) if self.foreign else kind, tutor=self, **given)

    def _opened(self, student: Any) -> Any:
        assert isinstance(self.teacher, Weights)
        return _open(self.teacher, self.foreign.size if self.foreign else self.size, student.config.get_text_config().vocab_size)


class Repeated:
    """An `Order` as TRL reads it: each batch as often as it takes passes to train on it, all of them full."""

    def __init__(self, order: Order, batch: int, times: int) -> None:
        self._order, self._batch, self._times = order, batch, times

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order comes next, from 0."""
        self._order.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        rows = list(self._order)
        rows += islice(cycle(rows), -len(rows) % self._batch)  # a short batch is filled up with the first rows of the epoch
        batches = (rows[start : start + self._batch] * self._times for start in range(0, len(rows), self._batch))
        return chain.from_iterable(batches)

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch) * self._batch * self._times


def _taught(base: Any) -> Any:
    """One of TRL's trainers for distillation, made to keep the promises above."""
    import torch
    from accelerate.utils import is_peft_model
    from trl.trainer.utils import pad

    class Trainer(base):  # type: ignore[misc]
        """`order` is set by who makes it."""

        order: Order

        def __init__(self, tutor: Tutor, **given: Any) -> None:
            super().__init__(**given)
            self.tutor = tutor
            self._tokens = self._answers = self._cut = 0
            self._read: tuple[Any, ...] = ()

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            passes = self.args.gradient_accumulation_steps
            return Repeated(self.order, self.args.per_device_train_batch_size * self.accelerator.num_processes * passes, passes)

        def _tokenize_prompts(self, prompts: list[list[int]]) -> Any:
            return prompts, None, {}

        def _prepare_inputs(self, generation_batch: Any) -> Any:
            device = self.accelerator.device
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(int(digest(self.args.seed, self.state.global_step, self.accelerator.process_index)[:15], 16))
                return super()._prepare_inputs(generation_batch)

        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            was = self.model.training
            self.model.eval()  # it is served without an adapter's dropout
            try:
                return super()._generate_single_turn(*args, **kwargs)
            finally:
                self.model.train(was)

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            found = super()._generate_and_score_completions(inputs)
            ids, mask = found["completion_ids"], found["completion_mask"]
            last = ids.gather(1, mask.sum(1, keepdim=True) - 1)
            ended = torch.isin(last, torch.tensor(self.eos_token_ids, device=ids.device))
            found["completion_mask"] = mask * ended
            sums = torch.stack([(mask * ended).sum(), found["prompt_mask"].sum() + mask.sum(), ended.sum()])
            found["num_items_in_batch"], read, whole = self.accelerator.gather(sums[None]).sum(0).unbind()
            asked = [torch.tensor(row["teacher_prompt"], device=ids.device) for row in inputs]
            found["teacher_ids"] = pad(asked, padding_value=self._tokenizer.pad_token_id, padding_side="left")
            found["teacher_mask"] = pad([torch.ones_like(each) for each in asked], padding_value=0, padding_side="left")
            self._tokens += int(read)
            self._answers += len(inputs) * self.accelerator.num_processes
            self._cut += len(inputs) * self.accelerator.num_processes - int(whole)
            self._metrics["train"]["num_tokens"] = [self._tokens]
            return found

        def _compute_loss(self, student: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> Any:
            self._read = inputs["teacher_ids"], inputs["teacher_mask"]
            return super()._compute_loss(_Cut(student, self.tutor.size), inputs, num_items_in_batch)

        def _get_last_hidden_state(self, model: Any, ids: Any, mask: Any, keep: int, **_: Any) -> Any:
            """Of the answers, [B, keep, H]; the teacher reads its own prompts before them."""
            if isinstance(model, _Cut):
                model = model.whole.base_model.model if is_peft_model(model.whole) else model.whole
            else:
                before, before_mask = self._read
                ids, mask = torch.cat([before, ids[:, -keep:]], 1), torch.cat([before_mask, mask[:, -keep:]], 1)
            places = (mask.cumsum(-1) - 1).clamp(min=0)  # as at generation: padding has no place
            found = model.base_model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False).last_hidden_state
            return found[:, :-1][:, -keep:]

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            """The loss and the agreement on the teacher's validation answers."""
            if self._step == 0 and self.state.global_step:
                return {}  # a start that goes on from a checkpoint, which was looked at when it was made
            rows = [_rendered(row["input_ids"], row["labels"]) for row in self.eval_dataset]
            with self.compute_loss_context_manager():
                said, nll = agreement(self.model, rows)
            share = sum(said) / len(said)
            metrics = {"eval_loss": nll, "eval_agreement": share, "eval_rows": len(said), "eval_num_tokens": self._tokens}
            self.log(metrics)
            self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

        def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
            if "loss" in logs:
                logs |= {"answers": self._answers, "cut": self._cut}
                self._answers = self._cut = 0
            super().log(logs, start_time)

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """Checkpoints are not for publishing."""

    return Trainer


def _behind_server() -> Any:
    """The trainer for a teacher behind a vLLM server, which need not be installed here."""
    import torch
    from trl.experimental.server_distillation import ServerDistillationTrainer

    class Bare(ServerDistillationTrainer):  # type: ignore[misc]
        """TRL's, without its client, which asks for vLLM in this environment."""

        def __init__(self, client: Any, args: Any, **given: Any) -> None:
            super(ServerDistillationTrainer, self).__init__(args=args, **given)
            self.loss_top_k, self.loss_add_tail, self.reverse_kl_top_1_mode = args.loss_top_k, True, "sampled"
            self.teacher_client = client

    class Trainer(_taught(Bare)):  # type: ignore[misc]
        """The same promises."""

        def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            """TRL takes the mean of the means of passes; here it is the sum over the tokens of the whole batch, as elsewhere."""

            def read(input_ids: Any, attention_mask: Any) -> Any:
                places = (attention_mask.cumsum(-1) - 1).clamp(min=0)
                logits = model(input_ids=input_ids, attention_mask=attention_mask, position_ids=places, use_cache=False).logits
                return SimpleNamespace(logits=logits[..., : self.tutor.size])

            mean = super().compute_loss(read, inputs) * self.current_gradient_accumulation_steps
            tokens, shared = inputs["completion_mask"].sum(), self.accelerator.num_processes  # DDP takes the mean over processes
            return mean * tokens / inputs["num_items_in_batch"].clamp(min=1) * shared

        def _get_teacher_token_logprobs_from_server(self, inputs: dict[str, Any], aligned_prompt_length: int) -> Any:
            """The teacher is asked about the same answers behind its own prompts."""
            before, answers, mask = inputs["teacher_ids"], inputs["completion_ids"], inputs["completion_mask"]
            asked = {
                "input_ids": torch.cat([before, answers], 1),
                "attention_mask": torch.cat([inputs["teacher_mask"], mask], 1),
                "labels": torch.cat([torch.full_like(before, -100), answers.masked_fill(mask == 0, -100)], 1),
                "prompt_attention_mask": inputs["teacher_mask"],
            }
            moved = before.shape[1] - inputs["prompt_ids"].shape[1]
            return super()._get_teacher_token_logprobs_from_server(inputs | asked, aligned_prompt_length + moved)

    return Trainer


class _Cut:
    """A student as TRL's loss sees it: its output layer without the ids that only pad it."""

    def __init__(self, whole: Any, size: int) -> None:
        self.whole, self.config, self._size = whole, whole.config, size

    def get_output_embeddings(self) -> Any:
        """`weight` [size, H] and `bias` [size] or None."""
        head = self.whole.get_output_embeddings()
        return SimpleNamespace(weight=head.weight[: self._size], bias=None if head.bias is None else head.bias[: self._size])


def _open(teacher: Weights, size: int, places: int) -> Any:
    """The teacher, in fp32 or on a GPU as it is stored, with an output layer of `size` ids.

    Raises:
        RecipeError, MissingError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = "auto" if torch.cuda.is_available() else torch.float32
    try:
        model = AutoModelForCausalLM.from_pretrained(teacher.model, revision=teacher.revision, dtype=dtype)
    except Exception as error:  # a folder can be broken in as many ways as its formats have readers
        raise unloadable(f"the teacher {teacher.model}", error) from error
    head = model.get_output_embeddings()
    if head.weight.shape[0] > size:
        cut = torch.nn.Linear(head.in_features, size, bias=head.bias is not None, device="meta")
        cut.weight = torch.nn.Parameter(head.weight[:size])
        cut.bias = None if head.bias is None else torch.nn.Parameter(head.bias[:size])
        model.set_output_embeddings(cut)
    model.config.get_text_config().vocab_size = places  # TRL compares this number; what is compared here are the first `size` ids
    return model.requires_grad_(False).eval()


def _end_with(model: Any, end_of_turn: int) -> None:
    """Let generation stop at the end of turn that is served."""
    known = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = sorted({end_of_turn, *([known] if isinstance(known, int) else known or [])})


def _arguments(kind: Any, plain: Any, own: dict[str, Any]) -> Any:
    """The arguments of a trainer for distillation: those that every method shares, and its own."""
    from transformers import TrainingArguments

    shared = {field.name: getattr(plain, field.name) for field in fields(TrainingArguments) if field.init}
    found = kind(**shared | own)
    found._n_gpu = plain._n_gpu
    return found


def _rendered(ids: list[int], labels: list[int]) -> Rendered:
    """A row back from what the trainer's dataset has of it."""
    start = labels.count(-100)
    return Rendered(ids[:start], ids[start:])
