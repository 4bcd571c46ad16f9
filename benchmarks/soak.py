"""Train for hours and watch what the training takes: `make soak`.

    python benchmarks/soak.py               # 3 hours
    python benchmarks/soak.py --hours 0.25  # too short to say much of the memory

A small training on scenes, with loader processes, is run until its time is over. Every few seconds memory (resident, of
the process and its loaders, shared pages counted once), open files and the size of the run folder are noted. After the
first sixth, which warms up, the memory may rise by less than 1 MB an hour (slope of the medians of twelve parts, by
Theil and Sen), no more files may be open, and the run folder may not come to more than 250 MB, of which 80 are its
three checkpoints. Results go to benchmarks/results/soak.json.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import save

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
EVERY = 5  # seconds


def command(runs: str, seconds: float) -> list[str]:
    """Return the training, which ends by itself after so many seconds."""
    options = {
        "config": EXPERIMENTS / "base.yaml",
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
    return [sys.executable, "-m", "spatialseg", "fit", *(f"--{name}={value}" for name, value in options.items())]


def family(pid: int) -> list[Path]:
    """Return the entries in /proc of a process and of all that it has started."""
    found = [Path(f"/proc/{pid}")]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += family(int(child))
    return found


def look(pid: int) -> tuple[float, int]:
    """Return the memory of a training in MB, and how many files it has open."""
    memory, files = 0, 0
    for process in family(pid):
        pages = dict(line.split(":") for line in (process / "smaps_rollup").read_text().splitlines()[1:])
        memory += int(pages["Pss"].split()[0])
        files += len(list((process / "fd").iterdir()))
    return memory / 1e3, files


def size(folder: Path) -> float:
    """Return the size of all files below a folder in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def slope(times: list[float], values: list[float]) -> float:
    """Return the median slope between the medians of twelve parts: neither a peak nor a saved checkpoint moves it."""
    parts = [range(len(times) * part // 12, len(times) * (part + 1) // 12) for part in range(12)]
    points = [[statistics.median(each[index] for index in part) for each in (times, values)] for part in parts if part]
    return statistics.median((y - x) / (t - s) for (s, x), (t, y) in itertools.combinations(points, 2))


def soak(hours: float) -> bool:
    """Do as the module says."""
    with tempfile.TemporaryDirectory() as runs:
        log = Path(runs, "log.txt")
        with log.open("w") as out:
            training = subprocess.Popen(
                command(runs, hours * 3600), stdout=out, stderr=out, env={**os.environ, "WANDB_MODE": "disabled"}
            )
        samples: list[tuple[float, float, int, float]] = []
        began = time.monotonic()
        while training.poll() is None:
            time.sleep(EVERY)
            try:
                now = (time.monotonic() - began) / 3600
                samples.append((now, *look(training.pid), size(Path(runs))))
            except (OSError, KeyError):  # a process ended meanwhile
                continue
        epochs = log.read_text().count("epoch ")
        if training.returncode:
            raise SystemExit(f"the training failed:\n{log.read_text()[-2000:]}")
    warm = [sample for sample in samples if samples[-1][0] / 6 < sample[0] < hours]  # then comes the test
    times, memory, files, folder = map(list, zip(*warm, strict=True))
    half = len(warm) // 2
    record = {
        "command": f"python benchmarks/soak.py --hours {hours:g}",
        "hours": round(samples[-1][0], 3),
        "epochs": epochs,
        "memory_mb": [round(value, 1) for value in (memory[0], statistics.median(memory), memory[-1])],
        "memory_slope_mb_per_hour": round(slope(times, memory), 3),
        "open_files": [max(files[:half]), max(files[half:])],
        "run_folder_mb": [round(folder[0], 2), round(folder[-1], 2)],
    }
    record["sound"] = (
        record["memory_slope_mb_per_hour"] < 1
        and record["open_files"][1] <= record["open_files"][0]
        and record["run_folder_mb"][1] < 250
    )
    print(record)
    print("written to", save("soak", record))
    return bool(record["sound"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=3.0, help="how long (default: 3)")
    sys.exit(not soak(parser.parse_args().hours))
