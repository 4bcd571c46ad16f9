"""How things are timed here: in one process, on the same threads, in turn, after a warm-up; medians and quartiles."""

import ctypes
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"
EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def alternate(
    functions: Mapping[str, Callable[[], object]], repeats: int = 20, clock: Callable[[], float] = time.perf_counter
) -> dict[str, dict[str, float]]:
    """Time functions in turn, so that whatever else the machine does hits all of them alike.

    Args:
        functions: What to time, by name.
        repeats: How often, after two unmeasured calls of each.
        clock: What tells the seconds.

    Returns:
        Median and quartiles of each in milliseconds: `ms`, `ms_q1`, `ms_q3`.
    """
    for function in functions.values():
        function()
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = clock()
            function()
            times[name].append((clock() - start) * 1e3)
    keys = ("ms", "ms_q1", "ms_q3")
    return {
        name: dict(zip(keys, np.percentile(taken, (50, 25, 75)).tolist(), strict=True)) for name, taken in times.items()
    }


def fit_arguments(options: Mapping[str, object], *experiments: str) -> list[str]:
    """Return the arguments of a training: files of experiments, one over the other, and options over all."""
    configs = [f"--config={EXPERIMENTS / name}.yaml" for name in ("base", *experiments)]
    return ["fit", *configs, *(f"--{name}={value}" for name, value in options.items())]


def shown(time: Mapping[str, float]) -> str:
    """Return a time of `alternate` as text: median and quartiles."""
    return f"{time['ms']:8.1f} ms [{time['ms_q1']:.1f}, {time['ms_q3']:.1f}]"


def peak_memory(function: Callable[[], object]) -> int:
    """Return by how many bytes the process grew at most while the function ran, sampled every half millisecond."""
    libc = ctypes.CDLL(None)
    # Large blocks go back when they are freed, or the gaps that they leave would count; -3 is M_MMAP_THRESHOLD.
    libc.mallopt(-3, 64 * 1024)
    libc.mallopt(-1, 0)
    function()
    libc.malloc_trim(0)  # what earlier calls left with the allocator would hide what this one takes
    page = os.sysconf("SC_PAGE_SIZE")
    statm = Path("/proc/self/statm")

    def resident() -> int:
        return int(statm.read_text().split()[1]) * page

    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.0005):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        function()
        peak = max(peak, resident())
    finally:
        done.set()
        watcher.join()
        libc.mallopt(-3, 32 * 1024 * 1024)
        libc.mallopt(-1, 64 * 1024 * 1024)
    return peak - before


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    packages = ("torch", "segmentation-models-pytorch", "numba", "spatialseg")
    return {
        "cpu": cpu or platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def save(name: str | Path, record: dict[str, Any]) -> Path:
    """Write a record and the machine to `results/<name>.json`, or to a path of that suffix."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), **record}, indent=2) + "\n")
    return path
