"""Two processes train as one does, test each image once, and end together."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_runs import EXPERIMENTS, configs, fit, runs_below

from spatialseg.run.folder import RunFolder

TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]
PATHS = os.pathsep.join([str(Path(__file__).parent), *sys.path])


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "spatialseg", "fit", *configs(EXPERIMENTS[0]), *arguments, "--seed_everything=3"]


def run_of(done: subprocess.CompletedProcess, runs: Path) -> RunFolder:
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = map(RunFolder, runs_below(runs))
    return run


def column(run: RunFolder, name: str) -> list[float]:
    with run.metrics.open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [
        ("64-true", 1e-8),
        ("32-true", 1e-5),  # with steps of Adam that a gradient near 0 does not turn about
    ],
)
def test_two_processes_train_and_test_as_one_does(precision, tolerance, overlay, tmp_path):
    """Without batch normalisation, whose statistics are those of a process's own share of the batch."""
    settings = [
        *("--model.encoder=tu-convnext_atto", "--model.network_args={decoder_use_norm: false}"),
        *("--data.source.init_args.test=7", f"--trainer.precision={precision}"),
        *(["--trainer.callbacks+=stopping.Steady"] if precision == "32-true" else []),
    ]
    one, _ = fit(EXPERIMENTS[0], overlay, tmp_path / "one", *settings)
    arguments = command(*overlay, "--runs", str(tmp_path / "two"), *settings, *TWO, "--data.batch_size=2")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    key = "0123456789abcdef" * 2 + "01234567"
    secrets = {**os.environ, "PYTHONPATH": PATHS, "WANDB_API_KEY": key, "HF_TOKEN": key}
    done = subprocess.run([*torchrun, *arguments[1:]], capture_output=True, text=True, env=secrets)
    two = run_of(done, tmp_path / "two")

    ours, theirs = (torch.load(run.last, weights_only=True) for run in (one, two))
    assert ours["global_step"] == theirs["global_step"] == 4
    for name, weight in ours["state_dict"].items():
        assert theirs["state_dict"][name].numpy() == pytest.approx(weight.numpy(), abs=tolerance), name
    assert column(two, "train/loss") == pytest.approx(column(one, "train/loss"), abs=max(tolerance, 1e-6))
    ours, theirs = one.scores(), two.scores()
    assert theirs.names == ours.names and len(ours) == len(list(two.maps.glob("*.png"))) == 7
    if precision == "64-true":  # a rounding may take a pixel over a threshold
        for name, values in ours.columns.items():
            assert theirs.columns[name] == pytest.approx(values, abs=1e-6, nan_ok=True), name
        for name in ("val/mae", "val/weighted_f", "val/loss"):  # of all processes, and of an odd number
            assert column(two, name) == pytest.approx(column(one, name), abs=1e-6), name

    # Only the first process writes and speaks.
    assert done.stdout.count("run folder:") == done.stdout.count("test/mae") == 1
    assert len(list(two.runs.glob("wandb/offline-run-*"))) == 1
    # And no key that the environment holds is in any file, those of W&B included.
    written = [path for path in two.runs.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert not written and key not in done.stdout + done.stderr


def test_a_process_that_dies_ends_the_other_with_an_error(small, tmp_path):
    note = tmp_path / "died"
    callback = f"--trainer.callbacks+={{class_path: stopping.Die, init_args: {{note: {note}}}}}"
    env = {**os.environ, "PYTHONPATH": PATHS, "WANDB_MODE": "disabled"}
    done = subprocess.run(command(*small, *TWO, callback), capture_output=True, text=True, env=env, timeout=300)
    assert time.time() - note.stat().st_mtime < 60
    assert done.returncode not in (0, None) and "rror" in done.stderr
    (run,) = map(RunFolder, runs_below(tmp_path / "runs"))
    assert not run.finished
