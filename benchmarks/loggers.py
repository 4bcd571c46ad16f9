"""What it costs to be watched: a training with W&B (offline) and the CSV file against one without, and the pictures.

    python benchmarks/loggers.py            # about 15 minutes on two cores
    python benchmarks/loggers.py --train 80 --epochs 1 --repeats 3

The same training runs in turn with both loggers and with none, in this one process, after one of each that does not
count. Reported is the median over pairs of what the loggers add to the seconds of training, and which share of them the
pictures of validation images take, W&B's copies included. Results go to benchmarks/results/loggers.json.
"""

import argparse
import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from common import fit_arguments, save

from spatialseg.cli import main
from spatialseg.run.callbacks import ValidationPictures
from spatialseg.run.folder import RunFolder

spent = {"pictures": 0.0}
"""Seconds spent in the methods that are timed."""


def timed(method: Callable[..., object]) -> Callable[..., object]:
    """Return a method that adds up the time it takes."""

    @wraps(method)
    def run(*args: Any, **kwargs: Any) -> object:
        start = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            spent["pictures"] += time.perf_counter() - start

    return run


def train(options: argparse.Namespace, logger: bool) -> tuple[float, float]:
    """Train, and return the seconds that took, and those of them spent on pictures."""
    spent["pictures"] = 0.0
    with tempfile.TemporaryDirectory() as runs, contextlib.redirect_stdout(io.StringIO()):
        settings: dict[str, object] = {"runs": runs, "test": "false", "trainer.max_epochs": options.epochs}
        settings |= {"data.source.init_args.train": options.train, "trainer.logger": str(logger).lower()}
        main(fit_arguments(settings, options.experiment))
        (run,) = map(RunFolder, Path(runs).glob("*/*/seed*/*"))
        seconds: float = run.read_summary()["train_seconds"]
    return seconds, spent["pictures"]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train in turn, with loggers and without."""
    for hook in ("on_validation_batch_end", "on_validation_epoch_end"):
        setattr(ValidationPictures, hook, timed(getattr(ValidationPictures, hook)))
    for logger in (False, True):
        train(options, logger)
    pairs = []
    for index in range(options.repeats):
        order = (False, True) if index % 2 else (True, False)
        pair = {logger: train(options, logger) for logger in order}
        pairs.append({"without": pair[False][0], "with": pair[True][0], "pictures": pair[True][1]})
        print(*(f"{name} {value:7.2f} s" for name, value in pairs[-1].items()), sep="   ", flush=True)
    added = [pair["with"] / pair["without"] - 1 for pair in pairs]
    share = [pair["pictures"] / pair["with"] for pair in pairs]
    keys = ("median", "q1", "q3")
    quartiles = {
        name: dict(zip(keys, np.percentile(values, (50, 25, 75)).tolist(), strict=True))
        for name, values in (("loggers", added), ("pictures", share))
    }
    return {"training": vars(options), "pairs": pairs, **quartiles}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="saliency_wfb", help="what is trained, on procedural scenes")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train", type=int, default=400, help="training images")
    parser.add_argument("--repeats", type=int, default=6, help="how many pairs")
    os.environ["WANDB_MODE"] = "offline"
    record = measure(parser.parse_args())
    for name in ("loggers", "pictures"):
        print(f"{name:9} {record[name]['median']:+.1%} [{record[name]['q1']:+.1%}, {record[name]['q3']:+.1%}]")
    print(save("loggers", record))
