"""What a trainer does where several processes share a training: rows, the mean over all tokens, checkpoints that know of no processes.

    class Trainer(Together, SFTTrainer): ...

A checkpoint of FSDP2 is put together before it is written, so that it is that of one process: weights by name, and AdamW's state as torch's
own `optimizer.pt`. It can be gone on from with any number of processes, under DDP, FSDP2 or none of them. DeepSpeed writes its own.
"""

import os
from pathlib import Path
from typing import Any

from synthdistill.errors import MissingError
from synthdistill.training.shares import PADDING_TOKENS, Shares, mean_over_tokens, shared_loader


class Together:
    """A part of a trainer of transformers'; `super()` is that trainer."""

    order: Any
    batch: int
    """Rows of a step, over all processes."""

    def create_accelerator_and_postprocess(self: Any) -> None:
        """accelerate shards on accelerators only, and without one would train by DDP without a word; torch shards on CPUs as well."""
        from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

        super().create_accelerator_and_postprocess()  # type: ignore[misc]
        state = self.accelerator.state
        if os.environ.get("ACCELERATE_USE_FSDP") == "true" and state.distributed_type == DistributedType.MULTI_CPU:
            state.fsdp_plugin, state.distributed_type = FullyShardedDataParallelPlugin(), DistributedType.FSDP
            self.is_fsdp_enabled = True

    def _prepare_for_training(self: Any, *args: Any, **kwargs: Any) -> Any:
        """What is asked for is what trains: accelerate takes DDP without a word where it cannot do as it was told.

        Raises:
            MissingError: it has done so.
        """
        from torch.distributed.tensor import DTensor

        found = super()._prepare_for_training(*args, **kwargs)  # type: ignore[misc]
        sharded = any(isinstance(weights, DTensor) for weights in self.model.parameters())
        for variable, strategy, there in (("FSDP", "fsdp2", sharded), ("DEEPSPEED", "deepspeed", self.is_deepspeed_enabled)):
            if os.environ.get(f"ACCELERATE_USE_{variable}") == "true" and not there:
                raise MissingError(
                    f'accelerate does not train with strategy = "{strategy}" on this machine, which has no GPU for it',
                    'Set [run] launch strategy = "ddp" or "fsdp2"',
                )
        return found

    # rows

    def get_train_dataloader(self: Any) -> Any:
        if self.args.world_size == 1:
            return super().get_train_dataloader()  # type: ignore[misc]
        return self._shared(self.train_dataset, self.order, self.batch, self.args.train_batch_size, "Training")

    def get_eval_dataloader(self: Any, eval_dataset: Any = None) -> Any:
        if self.args.world_size == 1:
            return super().get_eval_dataloader(eval_dataset)  # type: ignore[misc]
        rows = self.eval_dataset
        return self._shared(rows, range(len(rows)), max(1, len(rows)), self.args.eval_batch_size, "Evaluation")

    def _shared(self: Any, dataset: Any, order: Any, batch: int, micro: int, description: str) -> Any:
        rows = self._remove_unused_columns(dataset, description=description)
        shares = Shares(order, batch, micro, self.args.process_index, self.args.world_size)
        return shared_loader(rows, shares, self.data_collator)

    def training_step(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Rows that stand for nobody's share are no tokens that were trained on."""
        padded = (inputs["labels"] == -100).all().long()
        loss = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if self.args.world_size > 1:
            self._total_train_tokens -= PADDING_TOKENS * int(self.accelerator.reduce(padded.to(self.args.device), "sum"))
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return loss

    # validation

    def evaluation_loop(self: Any, dataloader: Any, description: str, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> Any:
        """The mean over all tokens, whatever the batches that they came in."""
        import torch
        from transformers.trainer_utils import EvalLoopOutput

        model = self._wrap_model(self.model, training=False)
        model.eval()
        losses, tokens = [], []
        for batch in dataloader:
            inputs = self._prepare_inputs(batch)
            tokens.append(int((inputs["labels"][:, 1:] != -100).sum()))
            with torch.no_grad(), self.compute_loss_context_manager():
                losses.append(float(self.compute_loss(model, inputs)))
        loss = mean_over_tokens(losses, tokens, self.accelerator)
        return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": loss}, len(self.eval_dataset))

    # checkpoints

    def save_model(self: Any, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if not self.is_fsdp_enabled:
            return super().save_model(output_dir, _internal_call)  # type: ignore[misc,no-any-return]
        from safetensors.torch import save_file
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        whole = get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            if hasattr(self.model, "peft_config"):
                self.model.save_pretrained(folder, state_dict=whole)
            else:
                twice = tied(self.model)
                save_file(
                    {name: weights for name, weights in whole.items() if name not in twice}, folder / "model.safetensors", {"format": "pt"}
                )
        return None

    def _save_optimizer_and_scheduler(self: Any, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            return super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc,no-any-return]
        import torch
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        whole = get_optimizer_state_dict(self.model, self.optimizer.optimizer, options=options)
        if self.args.should_save:
            torch.save(numbered(whole), Path(output_dir) / "optimizer.pt")
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")
        return None

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.is_fsdp_enabled:
            return super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc,no-any-return]
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        found = _weights(Path(resume_from_checkpoint), model) if self.args.process_index == 0 else {}
        set_model_state_dict(model, found, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False))
        return None

    def _load_optimizer_and_scheduler(self: Any, checkpoint: str | None) -> None:
        if not self.is_fsdp_enabled or checkpoint is None:
            return super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc,no-any-return]
        import torch
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        optimizer = self.optimizer.optimizer
        stored = torch.load(Path(checkpoint) / "optimizer.pt", map_location="cpu", weights_only=True)
        names = {id(weights): name for name, weights in self.model.named_parameters()}
        order = [[names[id(weights)] for weights in group["params"]] for group in optimizer.param_groups]
        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(self.model, optimizer, named(stored, order), options=options)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True))
        return None


def numbered(whole: dict[str, Any]) -> dict[str, Any]:
    """The state of an optimizer by the names of the weights, as torch's own: by their numbers."""
    numbers = {name: number for number, name in enumerate(name for group in whole["param_groups"] for name in group["params"])}
    groups = [group | {"params": [numbers[name] for name in group["params"]]} for group in whole["param_groups"]]
    return {"state": {numbers[name]: state for name, state in whole["state"].items()}, "param_groups": groups}


def named(stored: dict[str, Any], order: list[list[str]]) -> dict[str, Any]:
    """The other way round; `order` are the names of each group."""
    names = [name for group in order for name in group]
    numbers = [number for group in stored["param_groups"] for number in group["params"]]
    of = dict(zip(numbers, names, strict=True))
    groups = [group | {"params": [of[number] for number in group["params"]]} for group in stored["param_groups"]]
    return {"state": {of[number]: state for number, state in stored["state"].items()}, "param_groups": groups}


def _weights(checkpoint: Path, model: Any) -> dict[str, Any]:
    """The weights of a checkpoint by the names that they have in the model; those of an adapter lack its own."""
    from safetensors.torch import load_file

    adapter = checkpoint / "adapter_model.safetensors"
    if adapter.exists():
        of = {name.replace(".default", ""): name for name in model.state_dict() if "lora_" in name}
        return {of[name]: weights for name, weights in load_file(adapter).items()}
    found = load_file(checkpoint / "model.safetensors")
    return found | {name: found[once] for name, once in tied(model).items()}


def tied(model: Any) -> dict[str, str]:
    """The second names of weights that have two, and the first."""
    once = {id(weights): name for name, weights in model.named_parameters()}
    return {name: once[id(weights)] for name, weights in model.named_parameters(remove_duplicate=False) if name != once[id(weights)]}


def agreed(mine: bool, state: Any) -> bool:
    """What the first of several processes says; `state` is accelerate's, None where there is one process."""
    if state is None or state.num_processes == 1:
        return mine
    import torch

    said = torch.tensor(int(mine), device=state.device)
    torch.distributed.broadcast(said, 0)
    return bool(said)
