"""Memory that a model takes: what the peak rose by from before it was opened until it had answered.

    gauge = Gauge()
    with open_sampler(...) as sampler:
        list(sampler.sample(requests))
        gauge.rise(sampler)                          # MiB, None where nobody can tell

On a GPU it is what torch has allocated at most (weights, cache and what is worked on), and not what it has reserved. On a CPU it is
resident memory of the process, the pages of weights that were read among them; code that was loaded with the first model counts for that
one, and what earlier models gave back and this one took again is not seen, which matters for models of a few megabytes. A vLLM engine on a
CPU is a process of its own, all of which counts; on a GPU it takes the share that it is told to, which says nothing of the model.
"""

from contextlib import suppress
from pathlib import Path

from synthdistill.samplers.base import Sampler
from synthdistill.samplers.vllm import VllmSampler

GPU = "most that torch had allocated on the GPU, above what was there before the model"
CPU = "most that was resident of the process, above what was there before the model; of a vLLM engine all of its process"


class Gauge:
    """Notes what is taken now, and starts the peak anew."""

    def __init__(self) -> None:
        self.gpu = _gpu()
        if self.gpu:
            import torch

            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated() / 2**20
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # makes VmHWM what is resident now
            self.before = _status("self", "VmRSS") or 0.0

    @property
    def basis(self) -> str:
        """What is told, in words."""
        return GPU if self.gpu else CPU

    def rise(self, sampler: Sampler) -> float | None:
        """MiB since then; of the engine's own process where the sampler has one."""
        pid = sampler.pid if isinstance(sampler, VllmSampler) else None
        if self.gpu:
            import torch

            return None if pid else round(torch.cuda.max_memory_allocated() / 2**20 - self.before, 1)
        peak = _status(str(pid or "self"), "VmHWM")
        if peak is None:
            return None
        return round(peak if pid else max(0.0, peak - self.before), 1)


def _gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def _status(process: str, name: str) -> float | None:
    """A figure of /proc in MiB, None where the system has no such file."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) / 1024
    return None
