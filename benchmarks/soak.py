"""Train for hours and watch what the training takes: `make soak`.

    python benchmarks/soak.py               # 3 hours
    python benchmarks/soak.py --hours 0.25  # too short to say much of the memory

A small training on scenes, with loader processes, is run until its time is over. Every few seconds memory, open files
and the size of the run folder are noted. The memory is what the process and its loaders have written to, pages that
they share with each other counted once; libraries are left out, for their pages seem to come and go with whatever else
on the machine has them open. All threads allocate from one heap, for what lies free between the blocks of many moves
by more than the bar. After the first sixth, which warms up, the memory may rise by less than 1 MB an hour (slope of
the medians of twelve parts, by Theil and Sen), the median of open files may not be higher in the last part than in
the first (a single look may meet a checkpoint being written), and the run folder may not come to more than 250 MB, of
which 80 are its three checkpoints. Results go to benchmarks/results/soak.json, and what was noted to
soak.csv, at once.
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
from contextlib import suppress
from pathlib import Path

from common import RESULTS, fit_arguments, save

EVERY = 5  # seconds


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


def parts(values: list[float]) -> list[float]:
    """Return the medians of twelve parts, which neither a peak nor a saved checkpoint moves."""
    cuts = [len(values) * part // 12 for part in range(13)]
    return [statistics.median(values[first:end]) for first, end in itertools.pairwise(cuts) if first < end]


def slope(times: list[float], values: list[float]) -> float:
    """Return the median slope between the parts."""
    points = itertools.combinations(zip(parts(times), parts(values), strict=True), 2)
    return statistics.median((y - x) / (t - s) for (s, x), (t, y) in points)


def soak(hours: float, out: Path) -> bool:
    """Do as the module says."""
    with tempfile.TemporaryDirectory() as runs:
        log = Path(runs, "log.txt")
        with log.open("w") as file:
            # So small a network gains nothing by more threads.
            environment = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", **os.environ, "WANDB_MODE": "disabled"}
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
    warm = [sample for sample in samples if samples[-1][0] / 6 < sample[0] < hours]  # then comes the test
    times, process, memory, files, folder = map(list, zip(*warm, strict=True))
    record = {
        "command": f"python benchmarks/soak.py --hours {hours:g}",
        "hours": round(samples[-1][0], 3),
        "epochs": epochs,
        "memory_mb": [round(value, 1) for value in parts(memory)],
        "memory_slope_mb_per_hour": round(slope(times, memory), 3),
        "of_it_without_the_loaders": round(slope(times, process), 3),
        "open_files": [parts(files)[0], parts(files)[-1]],
        "run_folder_mb": [round(folder[0], 2), round(folder[-1], 2)],
    }
    record["sound"] = (
        record["memory_slope_mb_per_hour"] < 1
        and record["open_files"][1] <= record["open_files"][0]
        and record["run_folder_mb"][1] < 250
    )
    print(record)
    print("written to", save(out, record))
    return bool(record["sound"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=3.0, help="how long (default: 3)")
    parser.add_argument("--out", type=Path, default=RESULTS / "soak", help="record to write, without its suffix")
    options = parser.parse_args()
    sys.exit(not soak(options.hours, options.out))
