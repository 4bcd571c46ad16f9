"""How time and memory grow with the images, the classes and the data set.

    python benchmarks/growth.py               # about 10 minutes on two quiet cores
    python benchmarks/growth.py --only pairs  # what needs no quiet machine: start and memory

Each row is one training through the command line, of one epoch of 8 batches of 8 and a validation of 16 images, on
files, a mosaic each: the experiment's own network over image sides and classes, a small one over the number of pairs,
which are links to a few files. Noted are the seconds from the command to the first step, data checked before; those of
the epoch, its validation included; and the memory at most, of the process and its loader, libraries left out. Results
go to benchmarks/results/growth.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from common import RESULTS, fit_arguments, save
from PIL import Image
from soak import look

FILES = 16
GROWTH: dict[str, tuple[int, ...]] = {
    "size": (128, 224, 352, 512),
    "classes": (2, 21, 150),
    "pairs": (1000, 10_000, 100_000),
}


def write(folder: Path, pairs: int, side: int, classes: int) -> None:
    """Write mosaics of tiles, each of one class, and link to them until there are so many pairs to train with."""
    rng = np.random.default_rng(0)
    for split, count in (("train", pairs), ("val", FILES), ("test", 1)):
        for part in ("images", "masks"):
            (folder / split / part).mkdir(parents=True)
        for index in range(count):
            places = [folder / split / part / f"{index:06d}.png" for part in ("images", "masks")]
            if index < FILES:
                tiles = rng.integers(classes, size=(8, 8), dtype=np.uint8)
                colours = rng.integers(256, size=(classes, 3), dtype=np.uint8)
                for values, place in zip((colours[tiles], tiles), places, strict=True):
                    Image.fromarray(values.repeat(side // 8, axis=0).repeat(side // 8, axis=1)).save(place)
            else:
                for place in places:
                    place.symlink_to(f"{index % FILES:06d}.png")


def row(folder: Path, size: int, classes: int, pairs: int, small: bool) -> dict[str, float]:
    """Train once, and return what is noted of it."""
    options = {
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": 1,
        "trainer.limit_train_batches": 8,
        "trainer.log_every_n_steps": 8,
        "data.source": "FolderPairs",
        "data.source.init_args.root": folder,
        "data.source.init_args.classes": classes if classes > 2 else 1,
        "data.size": size,
        "data.eval_size": size,
        "model.loss": "[{name: ce}]" if classes > 2 else "[{name: wfb}]",
        "test": "false",
        "experiment": "growth",
        "runs": folder / "runs",
    } | ({"model.encoder": "tu-mobilenetv3_small_050", "model.encoder_weights": "null"} if small else {})
    began, memory = time.monotonic(), 0.0
    command = [sys.executable, "-m", "spatialseg", *fit_arguments(options)]
    with (folder / "log.txt").open("w+") as log:
        training = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "WANDB_MODE": "disabled"})
        ended = 0.0
        while training.poll() is None:
            time.sleep(0.2)
            with suppress(OSError, KeyError):
                memory = max(memory, look(training.pid)[1])
            if not ended and "\nepoch 1/1" in (folder / "log.txt").read_text():
                ended = time.monotonic() - began
        text = (folder / "log.txt").read_text()
    if training.returncode or not ended:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{text[-2000:]}")
    seconds = float(text.split("\nepoch 1/1")[1].splitlines()[0].split()[-2])
    return {"start_seconds": round(ended - seconds, 1), "epoch_seconds": seconds, "memory_mb": round(memory)}


def main() -> None:
    """Run all and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=GROWTH, help="what grows, beside what is on record; by default all")
    only = parser.parse_args().only
    record = json.loads((RESULTS / "growth.json").read_text()) if only else {}
    for what in [only] if only else GROWTH:
        record[what] = {}
        for value in GROWTH[what]:
            case = {"size": 128, "classes": 2, "pairs": 64} | {what: value}
            if what == "pairs":
                case["size"] = 64
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder), case["pairs"], case["size"], case["classes"])
                first, found = (row(Path(folder), **case, small=what == "pairs") for _ in range(2))
            found["first_start_seconds"] = first["start_seconds"]
            record[what][str(value)] = found
            print(what, value, found, flush=True)
    print("written to", save("growth", {what: record[what] for what in GROWTH}))


if __name__ == "__main__":
    main()
