"""`[run] launch`: one training in several processes, started by `accelerate launch` with a configuration that is written here.

    launch = Launch(processes=2, strategy="fsdp2")
    launch.lines(folder)                             # what is started, or for several nodes what is to be started
    launched(launch, job, progress, total=500)       # starts it, and comes back when the training has come to its end

The processes train up to the checkpoint with which the training ends; whoever started them goes on from it as after a kill, and writes the
student. So rows, curve, checkpoints and student are those of one process, and a training may go on with more processes or fewer.

They have no way to outlive this one: the launcher dies with it, and they die with the launcher (PR_SET_PDEATHSIG, prctl(2)).
"""

import contextlib
import ctypes
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from synthdistill import errors
from synthdistill.errors import LockedError, MissingError, RecipeError, SynthdistillError, UnfinishedError, require, storage
from synthdistill.progress import Progress
from synthdistill.settings import Settings, how
from synthdistill.shards import seal
from synthdistill.training.checkpoints import Checkpoint

if TYPE_CHECKING:
    from synthdistill.training.job import Job

Strategy = Literal["ddp", "fsdp2", "deepspeed"]
FOLDER = "launch"
"""Of the stage, while it works: the job, accelerate's configuration, what the processes say."""
CONFIG, LINES, LOG, TOLD, LOCK = "accelerate.json", "lines.txt", "processes.log", "told", "lock"
WORKER = "synthdistill.training.worker"
PORT = 29_500
POLL_S = 0.05
PATIENCE_S = 10.0
"""How long processes that are to stop may take, and those of a start that was killed."""
_PDEATHSIG = 1


class Launch(Settings):
    """`[run] launch`: how many processes share the steps of `train`."""

    processes: int = how(ge=1, le=1024)
    """Of one node: one for each of its GPUs; on a node without, processes that share its cores."""
    strategy: Strategy = how("ddp")
    """`ddp`: each process holds the whole model. `fsdp2`: each its part of weights, gradients and optimizer. `deepspeed`: ZeRO stage 2."""
    nodes: int = how(1, ge=1, le=10_000)
    """With more than one, the line that starts the processes is printed, not run."""

    @property
    def world(self) -> int:
        """Processes in all."""
        return self.processes * self.nodes

    def refuse_uneven(self, batch: int, micro: int | None) -> None:
        """Each process takes as many rows of a step as the others.

        Raises:
            ValueError: the batch, or what a forward pass takes of it, does not divide.
        """
        told = f"[run] launch: {self.processes} processes" + (f" on each of {self.nodes} nodes" if self.nodes > 1 else "")
        if batch % self.world:
            raise ValueError(f"{told} cannot share [train] batch_size = {batch} evenly: set it to a multiple of {self.world}")
        if micro and (batch // self.world) % micro:
            raise ValueError(
                f"{told} have {batch // self.world} rows each of batch_size = {batch}, which micro_batch = {micro} does not divide"
            )

    def config(self, precision: str) -> dict[str, Any]:
        """What accelerate reads. `precision` is fp32 or bf16."""
        kinds = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "deepspeed": "DEEPSPEED"}  # MULTI_GPU starts processes without GPUs just as well
        found: dict[str, Any] = {
            "compute_environment": "LOCAL_MACHINE",
            "debug": False,
            "distributed_type": kinds[self.strategy],
            "machine_rank": 0,
            "main_process_port": PORT if self.nodes > 1 else 0,  # 0: any that is free
            "main_training_function": "main",
            "mixed_precision": "bf16" if precision == "bf16" else "no",
            "num_machines": self.nodes,
            "num_processes": self.world,
            "rdzv_backend": "static",
            "same_network": True,
            "use_cpu": False,
        }
        if self.strategy == "fsdp2":
            found["fsdp_config"] = {
                "fsdp_version": 2,
                "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "fsdp_reshard_after_forward": True,
                "fsdp_offload_params": False,
                "fsdp_state_dict_type": "FULL_STATE_DICT",
                "fsdp_cpu_ram_efficient_loading": False,
                "fsdp_activation_checkpointing": False,
            }
        if self.strategy == "deepspeed":
            found["deepspeed_config"] = {
                "zero_stage": 2,
                "gradient_clipping": 1.0,  # that of transformers' trainer
                "offload_optimizer_device": "none",
                "offload_param_device": "none",
                "zero3_init_flag": False,
            }
            found["deepspeed_config"] |= {"deepspeed_multinode_launcher": "standard"} if self.nodes > 1 else {}
        return found

    def lines(self, folder: Path) -> dict[str, str]:
        """The command that starts the processes: here, or for several nodes by srun, or on node number RANK, the first being HEAD."""
        if self.nodes == 1:
            return {"here": shlex.join(self._command(folder))}
        before, after = self._command(folder)[:-3], self._command(folder)[-3:]

        def on(rank: str, head: str) -> str:
            return f"{shlex.join(before)} --machine_rank {rank} --main_process_ip {head} {shlex.join(after)}"

        slurm = on("$SLURM_NODEID", '"$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"')
        return {"srun": f"srun --nodes {self.nodes} --ntasks-per-node 1 bash -c {shlex.quote(slurm)}", "node": on("RANK", "HEAD")}

    def _command(self, folder: Path) -> list[str]:
        place = folder.absolute()
        return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(place / CONFIG), "-m", WORKER, str(place)]


def launched(launch: Launch, job: "Job", progress: Progress, *, total: int, done: int, precision: str) -> None:
    """Have several processes train up to the checkpoint with which the training ends. `done` of `total` steps are in the last one.

    Raises:
        UnfinishedError: there are several nodes: the message has the line to run.
        MissingError: fewer GPUs than processes, DeepSpeed is not installed, or the memory does not do.
        RecipeError, StorageError, SynthdistillError: as `fit`, from any of the processes.
    """
    if launch.strategy == "deepspeed":
        require("deepspeed", "deepspeed", '[run] launch strategy = "deepspeed"')
    folder = job.folder / FOLDER
    job.write(folder)
    seal(folder / CONFIG, json.dumps(launch.config(precision), indent=2).encode() + b"\n", rows=1)
    if launch.nodes > 1:
        lines = launch.lines(folder)
        seal(folder / LINES, "".join(f"{line}\n" for line in lines.values()).encode(), rows=len(lines))
        raise UnfinishedError(
            f"the training is ready for {launch.nodes} nodes that see this folder ({folder / LINES} has the line of one node)",
            f"Run this, then the same command again: {lines['srun']}",
        )
    _refuse_gpus(launch)
    for old in folder.glob("error-*.json"):
        old.unlink()
    (folder / TOLD).write_bytes(b"")
    with (
        progress.task("train", total=total, done=done) as advance,
        (folder / LOG).open("wb") as log,
        (folder / TOLD).open("rb") as told,
        _started(launch, folder, log) as process,
    ):
        ended = False
        while not ended:
            time.sleep(POLL_S)
            ended = process.poll() is not None  # asked before what is told is read, so that nothing is missed
            if steps := told.read().count(b"\n"):
                advance(steps)
    if process.returncode:
        raise _failure(folder)


@contextlib.contextmanager
def alone(folder: Path, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the checkpoints of a stage: its processes hold them while they work, also on other nodes.

    Raises:
        LockedError: they are at work.
    """
    place = folder / FOLDER / LOCK
    if not place.exists():
        yield
        return
    with storage(place), place.open("ab") as handle:
        until = time.monotonic() + patience_s  # those of a start that was killed are about to end
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise LockedError(f"the processes of {folder / FOLDER} are still training", "Wait for them") from error
                time.sleep(POLL_S)
        yield


def refuse_other_kind(last: Checkpoint | None, launch: Launch | None) -> None:
    """DeepSpeed goes on from its own checkpoints alone, and nobody else does.

    Raises:
        RecipeError: the training was begun the other way.
    """
    if last is None or last.ended:
        return
    theirs, wanted = (last.folder / "latest").exists(), launch is not None and launch.strategy == "deepspeed"
    if theirs != wanted:
        began = "with DeepSpeed" if theirs else "without DeepSpeed"
        raise RecipeError(
            f"{last.folder} was written {began}, and can only be gone on from {began}",
            f"Set [run] launch strategy {'to' if theirs else 'to another than'} deepspeed, or train anew with --run NEW",
        )


def die_with_parent() -> None:
    """Have the system kill this process when the one that started it ends, however that ends. Linux has a call for it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def _started(launch: Launch, folder: Path, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The launcher, in a session of its own (so that Ctrl-C comes here alone), and gone when the block ends."""
    ours, on_linux = os.getpid(), sys.platform == "linux"
    system = ctypes.CDLL(None, use_errno=True)

    def bound() -> None:
        if on_linux:
            system.prctl(_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != ours:  # it has ended before the call
                os._exit(1)

    process = subprocess.Popen(
        launch._command(folder),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=_environment(launch),
        start_new_session=True,
        preexec_fn=bound,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment(launch: Launch) -> dict[str, str]:
    """Processes that share cores have their part of them each, unless that is said."""
    threads = str(max(1, (os.cpu_count() or 1) // launch.processes))
    return {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"} | dict(os.environ) | {"PYTHONUNBUFFERED": "1"}


def _refuse_gpus(launch: Launch) -> None:
    import torch

    gpus = torch.cuda.device_count()
    if not gpus and launch.strategy == "deepspeed":
        raise MissingError('[run] launch strategy = "deepspeed" needs GPUs, and this machine shows none', 'Set strategy = "ddp" or "fsdp2"')
    if 0 < gpus < launch.processes:
        raise MissingError(
            f"[run] launch processes = {launch.processes}, one for each GPU, and this machine shows {gpus}",
            f"Set processes = {gpus}, or look at CUDA_VISIBLE_DEVICES",
        )


def note_failure(folder: Path, rank: int, error: BaseException) -> None:
    """What a process has to say before it ends, for the one that started it."""
    ours = isinstance(error, SynthdistillError)
    said = {"class": type(error).__name__, "ours": ours, "time": time.time()}
    said |= {"message": error.message, "hint": error.hint} if isinstance(error, SynthdistillError) else {"message": str(error), "hint": ""}
    beside = folder / f".error-{rank}.tmp"
    beside.write_text(json.dumps(said), encoding="utf-8")
    beside.replace(folder / f"error-{rank}.json")


def _failure(folder: Path) -> SynthdistillError:
    """The error of the process that failed first: one that a person is meant to read before one that came of it in the others."""
    found = [json.loads(path.read_bytes()) for path in folder.glob("error-*.json")]
    words = f"What the processes said is in {folder / LOG}"
    if not found:
        return SynthdistillError("a process of the training ended without a word, as one does that the system kills for its memory", words)
    first = min(found, key=lambda said: (not said["ours"], said["time"]))
    if first["ours"]:
        kind: type[SynthdistillError] = getattr(errors, first["class"])
        return kind(first["message"], first["hint"])
    line = next(iter(first["message"].strip().splitlines()), "")
    return SynthdistillError(f"a process of the training failed: {first['class']}: {line}", words)
