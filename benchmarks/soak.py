"""Train for hours and watch what the training takes: `make soak`.

    python benchmarks/soak.py               # 3 hours
    python benchmarks/soak.py --hours 0.25  # too short to say much of the memory

A small training on scenes, with loader processes, is run until its time is over. Every few seconds memory, open files
and the size of the run folder are noted. The memory is what the process and its loaders have written to, pages that
they share with each other counted once; libraries are left out, for their pages seem to come and go with whatever else
on the machine has them open. All threads allocate from one heap, and large blocks go back when they are freed, for
what lies free between the blocks of many moves by more than the bar. Most looks meet a step, whose tensors come and go
and are the more often seen the slower the machine is just then; what is never given back shows where the memory is
least. So after the first sixth, which warms up, the least memory may rise by less than 1 MB an hour (slope over twelve
parts, by Theil and Sen; the medians are recorded beside it), and the least number of open files may not be higher in
the second half than in the first. The run folder may not come to more than 250 MB, of which 80 are its three
checkpoints. Results go to benchmarks/results/soak.json, and what was noted to soak.csv, at once.
"""

import argparse
import csv
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from common import RESULTS, fit_arguments, save

EVERY = 5  # seconds
HEAP = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}  # of glibc


def command(runs: str, seconds: float) -> list[str]:
    """Return the training, which ends by itself after so many seconds."""
    options = {
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": 1_000_000,
        "trainer.max_time": f"{{seconds: {seconds:.0f}}}",
        "trainer.log_every_n_steps": 100,
        "model.encoder": "tu-mobilenetv3_small_050",
        "model.encoder_weights": "null",
        "data.source.init_args.train": 64,
        "data.source.init_args.val": 8,
        "data.source.init_args.test": 8,
        "data.size": 96,
        "data.num_workers": 2,
        "experiment": "soak",
        "runs": runs,
    }
    return [sys.executable, "-m", "spatialseg", *fit_arguments(options)]


def family(pid: int) -> list[Path]:
    """Return the entries in /proc of a process and of all that it has started."""
    found = [Path(f"/proc/{pid}")]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += family(int(child))
    return found


def look(pid: int) -> tuple[float, float, int]:
    """Return the memory of a training in MB, of the process itself and of all, and how many files they have open."""
    memory, files = [], 0
    for process in family(pid):
        pages = dict(line.split(":") for line in (process / "smaps_rollup").read_text().splitlines()[1:])
        memory.append(sum(int(pages[kind].split()[0]) * 1024 for kind in ("Pss_Anon", "Pss_Shmem")) / 1e6)
        files += len(list((process / "fd").iterdir()))
    return memory[0], sum(memory), files


def size(folder: Path) -> float:
    """Return the size of all files below a folder in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def parts(values: list[float], of: Callable[[list[float]], float] = statistics.median) -> list[float]:
    """Return what stands for each of twelve parts."""
    cuts = [len(values) * part // 12 for part in range(13)]
    return [round(of(values[first:end]), 3) for first, end in itertools.pairwise(cuts) if first < end]


def slope(times: list[float], values: list[float]) -> float:
    """Return the median slope between the least of the parts."""
    points = itertools.combinations(zip(parts(times), parts(values, min), strict=True), 2)
    return round(statistics.median((y - x) / (t - s) for (s, x), (t, y) in points), 3)


def verdict(samples: list[tuple[float, float, float, int, float]], hours: float, epochs: int) -> dict[str, object]:
    """Return the record of a training from its rows of the table."""
    warm = [sample for sample in samples if samples[-1][0] / 6 < sample[0] < hours]  # then comes the test
    times, process, memory, files, folder = map(list, zip(*warm, strict=True))
    rise, half = slope(times, memory), len(files) // 2
    opened = [min(files[:half]), min(files[half:])]
    return {
        "command": f"python benchmarks/soak.py --hours {hours:g}",
        "hours": round(samples[-1][0], 3),
        "epochs": epochs,
        "least_memory_mb": parts(memory, min),
        "median_memory_mb": parts(memory),
        "memory_slope_mb_per_hour": rise,
        "of_it_without_the_loaders": slope(times, process),
        "open_files": opened,
        "run_folder_mb": [round(folder[0], 2), round(folder[-1], 2)],
        "sound": rise < 1 and opened[1] <= opened[0] and folder[-1] < 250,
    }


def soak(hours: float, out: Path) -> bool:
    """Do as the module says."""
    with tempfile.TemporaryDirectory() as runs:
        log = Path(runs, "log.txt")
        with log.open("w") as file:
            # So small a network gains nothing by more threads.
            environment = {**HEAP, "OMP_NUM_THREADS": "1", **os.environ, "WANDB_MODE": "disabled"}
            training = subprocess.Popen(command(runs, hours * 3600), stdout=file, stderr=file, env=environment)
        samples: list[tuple[float, float, float, int, float]] = []
        began = time.monotonic()
        with out.with_suffix(".csv").open("w", buffering=1, newline="") as table:
            writer = csv.writer(table)
            writer.writerow(("hours", "process_mb", "memory_mb", "open_files", "run_folder_mb"))
            while training.poll() is None:
                time.sleep(EVERY)
                with suppress(OSError, KeyError):  # a process ended meanwhile
                    now = (time.monotonic() - began) / 3600
                    samples.append((now, *look(training.pid), size(Path(runs))))
                    writer.writerow(samples[-1])
        epochs = log.read_text().count("\nepoch ")
        if training.returncode:
            raise SystemExit(f"the training failed:\n{log.read_text()[-2000:]}")
    record = verdict(samples, hours, epochs)
    print(record)
    print("written to", save(out, record))
    return bool(record["sound"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=3.0, help="how long (default: 3)")
    parser.add_argument("--out", type=Path, default=RESULTS / "soak", help="record to write, without its suffix")
    options = parser.parse_args()
    sys.exit(not soak(options.hours, options.out))
