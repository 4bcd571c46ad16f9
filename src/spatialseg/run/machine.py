"""What a run ran on and with: the precision that suits the machine, and what has to be known to repeat the run."""

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

PACKAGES = ("spatialseg", "torch", "torchvision", "lightning", "torchmetrics", "segmentation-models-pytorch", "timm")


def automatic_precision() -> Literal["bf16-mixed", "16-mixed", "32-true"]:
    """Choose the fastest safe precision of this machine.

    Returns:
        `"bf16-mixed"` where bfloat16 has its own arithmetic units (recent CUDA devices, CPUs with AMX), `"16-mixed"` on
        older CUDA devices, else `"32-true"`.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_amx_tile_supported() else "32-true"


def circumstances() -> dict[str, Any]:
    """Return command, commit of the sources (`None` if they lie in no repository), machine and versions."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        machine += f", {torch.cuda.device_count()} × {torch.cuda.get_device_name()}"
    return {
        "command": shlex.join(["python", "-m", "spatialseg", *sys.argv[1:]]),
        "commit": commit,
        "machine": machine,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
