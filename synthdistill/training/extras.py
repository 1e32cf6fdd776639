"""Packages that only some recipes need: said before anything is paid for or loaded, not in the middle of it.

refuse_missing(settings)
"""

import importlib.util
from typing import Literal

from synthdistill.errors import MissingError, require
from synthdistill.training.hyperparameters import Hyperparameters


def refuse_missing(settings: Hyperparameters) -> None:
    """Look for what quantised weights, hub kernels and trackers come in.

    Raises:
        MissingError: a package is not installed; says which key wants it.
    """
    if settings.adapter and settings.adapter.bits:
        require("bitsandbytes", "qlora", f"[train] adapter bits = {settings.adapter.bits}")
    wanted: dict[str, str] = {name: f'[train] trackers = ["{name}"]' for name in settings.trackers}
    wanted |= {"kernels": '[train] kernels = "hub"'} if settings.kernels == "hub" else {}
    for package, purpose in wanted.items():
        if importlib.util.find_spec(package) is None:
            raise MissingError(f"{purpose} needs the package {package}, which is not installed", f"pip install {package}")


def kernels(settings: Hyperparameters) -> Literal["liger", "hub"] | None:
    """Whose fused layers run: Liger's where it is installed and there is a GPU, those of the hub (which come from there) only where the
    recipe says so."""
    import torch

    if settings.kernels == "hub":
        return "hub"
    there = torch.cuda.is_available() and importlib.util.find_spec("liger_kernel")
    return "liger" if settings.kernels == "auto" and there else None
