"""What a run ran on and with: the precision that suits the machine, and what has to be known to repeat the run."""

import math
import os
import platform
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

from spatialseg.functional.dispatch import one_thread

PACKAGES = ("spatialseg", "torch", "torchvision", "lightning", "torchmetrics", "segmentation-models-pytorch", "timm")


def automatic_precision() -> Literal["bf16-mixed", "16-mixed", "32-true"]:
    """Choose the fastest safe precision of this machine.

    Returns:
        `"bf16-mixed"` where bfloat16 has its own arithmetic units (recent CUDA devices, CPUs with AMX) or is measured
        to be faster, `"16-mixed"` on older CUDA devices, else `"32-true"`.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_amx_tile_supported() or _bfloat16_gain() > 1.3 else "32-true"


@cache
def _bfloat16_gain() -> float:
    """Time a product of matrices in float32 and in bfloat16, in turn, and return how many times as fast the latter is.

    The fastest of some repeats each on one thread, which other processes disturb least. Where float32 units compute
    bfloat16 the gain is below 1, where the CPU has instructions for it (AVX-512 BF16) well above 2.
    """
    exact = torch.ones(512, 512)
    rounded = exact.bfloat16()
    seconds: dict[torch.dtype, float] = {}
    with one_thread():
        for factor in (exact, rounded) * 8:
            start = time.perf_counter()
            factor @ factor
            seconds[factor.dtype] = min(time.perf_counter() - start, seconds.get(factor.dtype, math.inf))
    return seconds[torch.float32] / seconds[torch.bfloat16]


def circumstances() -> dict[str, Any]:
    """Return command, commit of the sources (`None` if they lie in no repository), machine and versions."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    instructions = torch.backends.cpu.get_cpu_capability()  # results differ between kinds
    machine = f"{platform.machine()} {instructions}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        machine += f", {torch.cuda.device_count()} × {torch.cuda.get_device_name()}"
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # this one may run from its sources
            versions[name] = version(name)
    return {
        "command": shlex.join(["python", "-m", "spatialseg", *sys.argv[1:]]),
        "commit": commit,
        "machine": machine,
        "versions": versions,
    }
