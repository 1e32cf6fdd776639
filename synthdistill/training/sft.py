"""Supervised fine-tuning with TRL: rows of ids in, a student's folder out. Killed at any moment, it goes on from its last checkpoint.

    trained = fit(Source("models/base", tokenizer, served), rows, validation, Hyperparameters(), folder=folder, progress=progress)

The loss is TRL's: the mean negative log-likelihood of the completions' tokens over the whole batch, however many forward passes it takes;
with `soft`, that of a `Lesson` (`training/soft.py`); with `features`, that of a `Likeness` (`training/features.py`) beside it; with a
`tutor`, on answers of the student's own (`training/on_policy.py`).
"""

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdistill.errors import RecipeError, SynthdistillError, require, storage, unloadable
from synthdistill.progress import Advance, Progress
from synthdistill.training import extras, packing, qlora, trackers
from synthdistill.training.batches import Order
from synthdistill.training.checkpoints import Checkpoint, mark, newest, prune
from synthdistill.training.curve import Curve
from synthdistill.training.features import PARTS, Likeness, taught
from synthdistill.training.guards import quiet, translated
from synthdistill.training.hyperparameters import Hyperparameters, Lora
from synthdistill.training.job import Job
from synthdistill.training.launch import Launch, alone, launched, refuse_other_kind
from synthdistill.training.memory import Estimate, Pass, estimate
from synthdistill.training.on_policy import Tutor
from synthdistill.training.render import Rendered
from synthdistill.training.soft import CELLS, Collator, Lesson, add_soft_head
from synthdistill.training.student import Source, write
from synthdistill.training.together import Together, agreed

CHECKPOINT_S = 600.0
"""At most this long between two checkpoints, evaluations or not."""

TOKENS = 32_768
"""Tokens of one forward pass where the recipe leaves `micro_batch` open."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it. Losses are means in nats a token."""

    steps: int
    epochs: float
    tokens: int
    train_loss: float | None
    best_validation_loss: float | None
    stopped_early: bool
    parameters: int
    trainable: int
    learning_rate: float
    precision: str
    device: str
    revision: str | None
    kernels: str | None
    """Whose fused layers ran: `liger`, `hub`, or none."""
    feature_loss: float | None = None
    """The last of the curve, before it is weighed; None without `features`."""


def fit(
    source: Source,
    rows: Sequence[Rendered],
    validation: Sequence[Rendered],
    settings: Hyperparameters,
    *,
    folder: Path,
    progress: Progress,
    soft: Lesson | None = None,
    dft: bool = False,
    tutor: Tutor | None = None,
    features: Likeness | None = None,
    launch: Launch | None = None,
) -> Trained:
    """Train, or go on training, and write `student/`, `metrics.jsonl` and, with an adapter, `adapter/` to `folder`. With `launch`, other
    processes train up to the last checkpoint, and this one goes on from there.

    Raises:
        LockedError: processes that were launched earlier are still at work.
        UnfinishedError: `launch` is for several nodes, and they have not been at work.
        MissingError: a package is not installed, the memory does not do; says which key would help.
        RecipeError: the model cannot be loaded, or has no place for the tokenizer's ids.
        StorageError: the disk is full or the folder cannot be written.
        SynthdistillError: the loss is no number any more.
    """
    extras.refuse_missing(settings)
    knob = functools.partial(_knob, source, settings, rows, soft=soft is not None)
    with quiet(), storage(folder), translated(folder, knob):
        with alone(folder):
            last = newest(folder / "checkpoints")
        refuse_other_kind(last, launch)
        if launch and not (last and last.ended):
            job = Job(source, rows, validation, settings, folder, soft, dft)
            done, steps = last.step if last else 0, settings.steps(len(rows))
            launched(launch, job, progress, total=steps, done=done, precision=resolved(settings.precision))
            last = newest(folder / "checkpoints")
        curve = Curve(folder / "metrics.jsonl", upto=last.step if last else 0)
        model, stored = _model(source, settings, rows)
        parameters = model.num_parameters()  # without those of an adapter; packed ones of 4 bits count as what they are
        total = settings.steps(len(rows))
        with progress.task("train", total=total, done=last.step if last else 0) as advance:
            watch = Watch(curve, advance, folder / "checkpoints")
            trainer = trainer_for(
                model,
                source.tokenizer,
                rows,
                validation,
                settings,
                folder=folder / "checkpoints",
                watch=watch,
                soft=soft,
                dft=dft,
                tutor=tutor,
                features=features,
                step=last.step if last else 0,
            )
            if not launch and _visible_gpus() > 1 and trainer.args.device.type == "cuda":
                progress.note("train uses the first of several GPUs; CUDA_VISIBLE_DEVICES chooses another, [run] launch uses all of them")
            _run(trainer, last, keep_best=bool(settings.early_stop))
        if features:
            features.leave(trainer.model)
        trained = _trained(trainer, settings, curve, total, model, parameters)
        write(trainer.model, source, stored, folder, quantised=bool(settings.adapter and settings.adapter.bits))
    return trained


def take_part(job: Job, advance: Advance) -> None:
    """Train as one of several processes, up to the checkpoint with which the training ends. The first of them writes.

    Raises:
        MissingError, RecipeError, StorageError, SynthdistillError: as `fit`.
    """
    import torch
    from accelerate import PartialState
    from transformers import set_seed

    knob = functools.partial(_knob, job.source, job.settings, job.rows, soft=job.soft is not None)
    with quiet(), storage(job.folder), translated(job.folder, knob):
        here, checkpoints = PartialState(cpu=not torch.cuda.is_available()), job.folder / "checkpoints"
        if here.is_main_process:
            newest(checkpoints)  # and remove what a killed process was writing
        here.wait_for_everyone()
        last = newest(checkpoints)
        curve = Curve(job.folder / "metrics.jsonl", upto=last.step if last else 0) if here.is_main_process else None
        model, _ = _model(job.source, job.settings, job.rows)
        trainer = trainer_for(
            model,
            job.source.tokenizer,
            job.rows,
            job.validation,
            job.settings,
            folder=checkpoints,
            watch=Watch(curve, advance, checkpoints, here),
            soft=job.soft,
            dft=job.dft,
            processes=here.num_processes,
            step=last.step if last else 0,
        )
        set_seed(job.settings.seed + here.process_index)  # of dropout; each process has rows of its own
        _run(trainer, last, keep_best=False)


def needs(source: Source, settings: Hyperparameters, rows: Sequence[Rendered], *, soft: bool) -> Estimate:
    """What a training on rows will need of memory.

    Raises:
        RecipeError, MissingError: the model's config cannot be loaded.
    """
    longest = max(rows, key=len)
    micro = settings.micro_batch or _micro_batch(settings.batch_size, len(longest))
    learned = micro * max(len(row.completion) for row in rows) if soft else None
    with quiet():
        return estimate(source.model, settings, Pass(micro, len(longest), resolved(settings.precision), learned, CELLS))


def _knob(source: Source, settings: Hyperparameters, rows: Sequence[Rendered], *, soft: bool) -> str:
    """The key that helps most where the memory does not do."""
    return needs(source, settings, rows, soft=soft).knob(settings)


def load_student(folder: Path) -> Any:
    """A trained student, to be looked at: in fp32, on the GPU where there is one.

    Raises:
        RecipeError, MissingError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with quiet():
        try:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        except Exception as error:  # a folder can be broken in as many ways as its formats have readers
            raise unloadable(f"the student {folder}", error) from error
        return model.to("cuda" if torch.cuda.is_available() else "cpu")


def trainer_for(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Rendered],
    validation: Sequence[Rendered],
    settings: Hyperparameters,
    *,
    folder: Path,
    watch: "Watch | None" = None,
    soft: Lesson | None = None,
    dft: bool = False,
    tutor: Tutor | None = None,
    features: Likeness | None = None,
    processes: int = 1,
    step: int = 0,
) -> Any:
    """TRL's trainer over rows that are ids already, in our order of batches, with its own printing off."""
    from transformers import EarlyStoppingCallback, PrinterCallback

    data = tutor.dataset(rows) if tutor else _dataset(rows)
    if soft or settings.packing:
        data = data.add_column("row", list(range(len(rows))))
    if soft:
        add_soft_head(model, soft)  # before TRL's own and an adapter wrap it
    held = _dataset(sorted(validation, key=len)) if validation else None
    longest = max(tutor.longest if tutor else 0, *map(len, [*rows, *validation]))
    arguments = _arguments(settings, len(rows), longest, folder, validates=bool(validation), model=model, processes=processes)
    if settings.packing:
        most = arguments.per_device_train_batch_size
        packing.refuse_mixing(model, sorted(rows, key=len)[-most:], resolved(settings.precision))
    try:
        kind = _trainer_class()
        make = tutor.maker(model, arguments) if tutor else functools.partial(taught(kind, features) if features else kind, args=arguments)
        trainer = make(
            model=model,
            train_dataset=data,
            eval_dataset=held,
            processing_class=tokenizer,
            peft_config=_lora(settings.adapter),
        )
    except ValueError as error:
        if settings.adapter is None:
            raise
        raise RecipeError(f"[train] adapter does not fit the student: {error}", "Name layers that it has, or leave target out") from error
    trainer.args.loss_type = "dft" if dft else "nll"
    if features:
        features.join(
            trainer.model, model.base_model, rows, arguments.per_device_train_batch_size
        )  # after an adapter, which would freeze the projections
    if len(trainer.train_dataset) != len(rows):
        raise SynthdistillError(f"the trainer took {len(trainer.train_dataset)} of {len(rows)} rows", "Please report this")
    if settings.adapter and settings.adapter.bits:
        qlora.in_full(trainer)
    if settings.packing:
        trainer.data_collator = packing.Packing(trainer.data_collator)
    if soft:
        trainer.data_collator = Collator(trainer.data_collator, soft)
    trainer.order, trainer.batch = Order([len(row) for row in rows], settings.batch_size, settings.seed), settings.batch_size
    trainer.remove_callback(PrinterCallback)
    for callback in trackers.tensorboard(settings.trackers, folder.parent / "tensorboard", step=step):
        trainer.add_callback(callback)
    if validation and settings.early_stop:
        trainer.add_callback(EarlyStoppingCallback(settings.early_stop.patience))
    if watch:
        trainer.add_callback(_bridge(watch))  # last, so that it sees what the others decided
    return trainer


class Watch:
    """What happens around the steps: curve, progress, checkpoints. Of several processes (`state` is accelerate's of this one), the first
    decides and writes; the others have no curve."""

    def __init__(self, curve: Curve | None, advance: Advance, folder: Path, state: Any = None) -> None:
        self.curve, self.advance, self.folder, self.state = curve, advance, folder, state
        self.saved = time.monotonic()

    def stepped(self, control: Any) -> None:
        """Ask for a checkpoint when the last is old, and for a line of the curve wherever there is a checkpoint."""
        self.advance(1)
        if agreed(time.monotonic() - self.saved > CHECKPOINT_S, self.state):  # their clocks differ
            control.should_save = True
        if control.should_save or control.should_evaluate:
            control.should_log = True

    def logged(self, state: Any, logs: dict[str, Any]) -> None:
        """A line of the curve.

        Raises:
            SynthdistillError: the loss is no number.
        """
        if self.curve is None:
            return
        place = {"step": state.global_step, "epoch": round(state.epoch, 4)}
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise SynthdistillError(f"the loss is {logs['loss']} at step {state.global_step}", "Lower [train] learning_rate")
            line = {"loss": logs["loss"], "learning_rate": logs["learning_rate"]}
            line |= {name: logs[name] for name in ("nll", "divergence", "features", *PARTS, "answers", "cut") if name in logs}
            self.curve.add(place | line, tokens=int(logs["num_tokens"]))
        elif "eval_loss" in logs:
            line = {"validation_loss": logs["eval_loss"]} | ({"agreement": logs["eval_agreement"]} if "eval_agreement" in logs else {})
            self.curve.add(place | line, tokens=int(logs["eval_num_tokens"]))

    def wrote(self, state: Any, control: Any) -> None:
        """A checkpoint is there: mark it when all have written their part, and remove those that nobody needs any more."""
        self.saved = time.monotonic()
        if self.state:
            self.state.wait_for_everyone()
        if self.curve is None:
            return
        self.curve.sync()
        mark(self.folder / f"checkpoint-{state.global_step}", ended=control.should_training_stop)
        prune(self.folder, keep=state.best_global_step)


def _trainer_class() -> Any:
    import torch
    from trl import SFTTrainer

    class Trainer(Together, SFTTrainer):  # type: ignore[misc]
        """TRL's, with our order of rows, soft targets where there are some, and without the model card beside each checkpoint."""

        order: Order

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return self.order

        def _set_signature_columns_if_needed(self) -> None:
            self._signature_columns = ["input_ids", "labels", "seq_lengths", "row"]

        def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            if "soft" not in inputs:
                taught = self.args.loss_type
                self.args.loss_type = taught if self.model.training else "nll"  # methods are compared by one loss on validation rows
                try:
                    return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
                finally:
                    self.args.loss_type = taught
            found = model(**inputs)
            sums = self.accelerator.gather_for_metrics(torch.stack([found["nll"], found["divergence"], found["tokens"].float()])[None]).sum(
                0
            )
            for name, value in zip(("nll", "divergence"), (sums[:2] / sums[2]).tolist(), strict=True):
                self._metrics["train"][name].append(value)
            read = (
                inputs["attention_mask"].sum() if "attention_mask" in inputs else (inputs["position_ids"] >= 0).sum()
            )  # packed: all of them
            self._total_train_tokens += int(self.accelerator.gather_for_metrics(read.sum()).sum())
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
            if num_items_in_batch is None:
                return found["loss"] / found["tokens"]
            shared = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1  # DDP takes the mean over processes
            return found["loss"] / num_items_in_batch * shared

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """Checkpoints are not for publishing."""

    return Trainer


def _bridge(watch: Watch) -> Any:
    from transformers import TrainerCallback

    class Bridge(TrainerCallback):  # type: ignore[misc]
        """transformers' callback protocol."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.stepped(control)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            watch.logged(state, logs)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.wrote(state, control)

    return Bridge()


def _arguments(settings: Hyperparameters, rows: int, longest: int, folder: Path, *, validates: bool, model: Any, processes: int = 1) -> Any:
    from trl import SFTConfig

    device = model.device.type
    share = settings.batch_size // processes
    micro = settings.micro_batch or _micro_batch(share, longest)
    every = math.ceil(settings.steps_per_epoch(rows) / settings.evals_per_epoch)
    arguments = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        learning_rate=settings.peak,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=min(math.ceil(settings.warmup * settings.steps(rows)), settings.steps(rows) - 1),  # whose first step is one of 0
        weight_decay=settings.weight_decay,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=share // micro,
        gradient_checkpointing=settings.recomputes(model.num_parameters()),
        use_liger_kernel=extras.kernels(settings) == "liger",
        bf16=resolved(settings.precision) == "bf16",
        use_cpu=device == "cpu",  # without which bf16 is refused there
        seed=settings.seed,
        logging_steps=max(1, settings.steps(rows) // 100),
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=every,
        eval_strategy="steps" if validates else "no",
        eval_steps=every if validates else None,
        metric_for_best_model="eval_loss" if validates else None,
        greater_is_better=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},  # the rows are ids and labels already; nothing is cut, nothing filtered out
        ddp_find_unused_parameters=False,  # there are none, and looking for them takes time
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to=trackers.others(settings.trackers),
        run_name="/".join(folder.resolve().parts[-4:-2]),  # recipe and run
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # without a launcher, more of them would mean nn.DataParallel, which TRL refuses
    return arguments


def resolved(precision: str) -> str:
    """What `auto` means on this machine."""
    import torch

    if precision == "auto":
        return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32"
    return precision


def _visible_gpus() -> int:
    import torch

    return int(torch.cuda.device_count())


def _micro_batch(batch: int, longest: int) -> int:
    """The largest divisor of a batch whose longest rows hold no more than `TOKENS`."""
    return max((size for size in range(1, batch + 1) if batch % size == 0 and size * longest <= TOKENS), default=1)


def _dataset(rows: Sequence[Rendered]) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": [row.labels for row in rows]})


def _lora(adapter: Lora | None) -> Any:
    if adapter is None:
        return None
    require("peft", "train", "[train] adapter")
    from peft import LoraConfig

    return LoraConfig(
        r=adapter.rank,
        lora_alpha=2 * adapter.rank if adapter.alpha is None else adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=adapter.target,
        task_type="CAUSAL_LM",
    )


def _model(source: Source, settings: Hyperparameters, rows: Sequence[Rendered]) -> tuple[Any, Any]:
    """The model to train, in fp32 (under an adapter on a GPU as it is stored), and the type in which it is stored."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        stored = AutoConfig.from_pretrained(source.model).get_text_config().dtype or torch.float32
        dtype = stored if settings.adapter and torch.cuda.is_available() else torch.float32
        model = AutoModelForCausalLM.from_pretrained(source.model, dtype=dtype, **_ways(settings))
    except Exception as error:  # a folder can be broken in as many ways as its formats have readers
        raise unloadable(f"the student {source.model}", error) from error
    if settings.adapter and settings.adapter.bits:
        qlora.keep_differentiable(model)
    places, highest = model.get_input_embeddings().weight.shape[0], max(max(row.ids) for row in rows)
    if highest >= places:
        raise RecipeError(
            f"the student {source.model} has {places} embeddings, its tokenizer makes the id {highest}",
            "Give the tokenizer of the model",
        )
    return model, stored


def _ways(settings: Hyperparameters) -> dict[str, Any]:
    """How transformers shall build the model, where it is not its own way."""
    found: dict[str, Any] = {}
    if settings.adapter and settings.adapter.bits:
        found["quantization_config"] = qlora.configuration(settings.adapter.bits, resolved(settings.precision))
    if extras.kernels(settings) == "hub":
        found["use_kernels"] = True
    if settings.packing and (skipping := packing.attention()):
        found["attn_implementation"] = skipping
    return found


def _run(trainer: Any, last: Checkpoint | None, *, keep_best: bool) -> None:
    """Train to the end, and take the best weights where there is a best."""
    from transformers import TrainerState

    if last and last.ended:
        trainer.state = TrainerState.load_from_json(str(last.folder / "trainer_state.json"))
    else:
        if last:
            _remember(trainer, last)
        trainer.train(resume_from_checkpoint=str(last.folder) if last else None)
    best = trainer.state.best_global_step if keep_best else None
    if best or (last and last.ended):
        trainer._load_from_checkpoint(str(Path(trainer.args.output_dir) / f"checkpoint-{best or trainer.state.global_step}"))


def _remember(trainer: Any, last: Checkpoint) -> None:
    """Give the early stop back what it had counted: transformers writes it down, and begins at 0 all the same."""
    from transformers import EarlyStoppingCallback, TrainerState

    kept = TrainerState.load_from_json(str(last.folder / "trainer_state.json")).stateful_callbacks.get("EarlyStoppingCallback")
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, EarlyStoppingCallback) and kept:
            callback.early_stopping_patience_counter = kept["attributes"]["early_stopping_patience_counter"]


def _trained(trainer: Any, settings: Hyperparameters, curve: Curve, total: int, model: Any, parameters: int) -> Trained:
    state = trainer.state
    losses = [line["validation_loss"] for line in curve.lines if "validation_loss" in line and line["step"]]
    return Trained(
        steps=state.global_step,
        epochs=round(state.epoch, 4),
        tokens=curve.lines[-1]["tokens"],
        train_loss=curve.last("loss"),
        best_validation_loss=min(losses, default=None),
        stopped_early=state.global_step < total,
        parameters=parameters,
        trainable=sum(weights.numel() for weights in trainer.model.parameters() if weights.requires_grad),
        learning_rate=settings.peak,
        precision=resolved(settings.precision),
        device=str(trainer.args.device),
        revision=model.config._commit_hash,
        kernels=extras.kernels(settings),
        feature_loss=curve.last("features"),
    )
