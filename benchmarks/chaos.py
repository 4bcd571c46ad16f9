"""Kill a training at random moments, again and again, and see whether it ends as one that was left alone: `make chaos`.

    python benchmarks/chaos.py             # 20 kills, some minutes
    python benchmarks/chaos.py --kills 3 --seed 7

A small training on files, with loader processes, is run once without interruption. Then it is begun, killed with all of
its processes (SIGKILL) at a moment drawn evenly from the time that the first one took, gone on with (`--resume`),
killed again, and so on until it comes to its end; then begun anew, until there were as many kills as asked for.
Whatever comes to its end must have the same weights (last and best), bit by bit, the same scores of every image, the
same curves, and no file more or less. Results go to benchmarks/results/chaos.json.
"""

import argparse
import csv
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ["WANDB_MODE"] = "disabled"  # what a killed process leaves of it is W&B's own matter

import torch
from common import fit_arguments, save

import spatialseg.run.cli  # noqa: F401 - so that no process has to
from spatialseg.cli import main
from spatialseg.data import ProceduralScenes
from spatialseg.run.folder import RunFolder

EPOCHS = 4
CLOCKS = ("step/images_per_second", "step/peak_memory_gb")


def settings(data: Path, runs: Path) -> list[str]:
    """Return a command that leaves nothing out: dropout, a schedule in the loss, gathered gradients, loaders."""
    options = {
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": EPOCHS,
        "trainer.accumulate_grad_batches": 2,
        "trainer.log_every_n_steps": 1,
        "model.architecture": "fpn",
        "model.encoder": "tu-mobilenetv3_small_050",
        "model.encoder_weights": "null",
        "model.network_args": "{decoder_pyramid_channels: 32, decoder_segmentation_channels: 32}",
        "model.loss": "[{name: wfb}, {name: bce, schedule: {kind: linear, start: 1, end: 0}}]",
        "data.source": "FolderPairs",
        "data.source.init_args.root": data,
        "data.size": 64,
        "data.batch_size": 4,
        "data.num_workers": 2,
        "experiment": "chaos",
        "runs": runs,
    }
    return fit_arguments(options, "saliency_wfb")


def start(arguments: list[str], log: Path) -> int:
    """Run a command in a process, and a session, of its own: what has been imported need not be imported again."""
    if child := os.fork():
        return child
    os.setsid()
    torch.set_num_threads(1)  # so small a network gains nothing by more
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    status = 0
    try:
        main(arguments)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    os._exit(status)


def train(arguments: list[str], log: Path, seconds: float) -> tuple[bool, float]:
    """Train for at most so many seconds; return whether it came to its end by itself, and how long it took."""
    began = time.monotonic()
    child = start(arguments, log)
    while time.monotonic() - began < seconds:
        if os.waitpid(child, os.WNOHANG)[0]:
            if "test/weighted_f" not in log.read_text():
                raise SystemExit(f"{' '.join(arguments)} failed:\n{log.read_text()}")
            return True, time.monotonic() - began
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False, time.monotonic() - began


def outcome(run: RunFolder) -> dict[str, object]:
    """Return all that must not depend on an interruption."""
    with run.metrics.open() as file:
        rows = [{key: value for key, value in row.items() if key not in CLOCKS} for row in csv.DictReader(file)]
    summary = run.read_summary()
    return {
        "last weights": torch.load(run.last, weights_only=True)["state_dict"],
        "best weights": torch.load(run.best, weights_only=True)["state_dict"],
        "scores by image": run.images.read_bytes(),
        "curves": rows,
        "measures": (summary["measures"], summary["validation"], summary["cut"], summary["epochs"]),
        "files": sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*")),
    }


def differences(ours: dict[str, object], theirs: dict[str, object]) -> list[str]:
    """Name what differs."""

    def same(one: object, other: object) -> bool:
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
        return one == other

    return [what for what, value in ours.items() if not same(value, theirs[what])]


def moment(run: RunFolder) -> str:
    """Say how far a run was when it was killed."""
    if not run.last.exists() and not run.previous.exists():
        return "before its first checkpoint"
    for folder, what in ((run.maps, "test"), (run.summary, "final validation")):
        if folder.exists():
            return what
    epochs = len(list(run.pictures.glob("*.png")))
    return f"epoch {epochs + 1}" if epochs < EPOCHS else "after the last epoch"


def only_run(runs: Path) -> RunFolder | None:
    """Return the run folder below, if there is one yet."""
    found = list(runs.glob("*/*/*/*"))
    return RunFolder(found[0]) if found else None


def chaos(kills: int, seed: int) -> None:
    """Do as the module says."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        ProceduralScenes(train=24, val=4, test=4, size=64).export(place / "data")
        log = place / "log.txt"
        _, seconds = train(settings(place / "data", place / "whole"), log, 3600)
        expected = outcome(only_run(place / "whole"))
        print(f"uninterrupted: {seconds:.1f} s, {len(expected['curves'])} rows of logs", flush=True)
        moments: list[str] = []
        ended: list[list[str]] = []
        while len(moments) < kills:
            runs = place / f"runs{len(ended)}"
            arguments = settings(place / "data", runs)
            since = len(moments)
            while True:
                left = rng.uniform(0, seconds) if len(moments) < kills else 3600
                finished, _ = train(arguments, log, left)
                run = only_run(runs)
                if finished:
                    break
                moments.append(moment(run) if run else "before its folder was made")
                print(f"kill {len(moments)}: {moments[-1]}", flush=True)
                if run and run.config.exists():
                    arguments = ["fit", "--resume", str(run)]
                elif run:  # killed before its configuration was written
                    arguments = [*settings(place / "data", runs), "--resume=last"]
            ended.append(differences(outcome(run), expected))
            verdict = f"differs in {', '.join(ended[-1])}" if ended[-1] else "is the same"
            print(f"run {len(ended)}, killed {len(moments) - since} times, {verdict}", flush=True)
    record = {
        "command": f"python benchmarks/chaos.py --kills {kills} --seed {seed}",
        "kills": len(moments),
        "moments": moments,
        "uninterrupted_seconds": round(seconds, 1),
        "runs": len(ended),
        "runs_that_differ": sum(map(bool, ended)),
    }
    print("written to", save("chaos", record))
    if any(ended):
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how often to kill (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args()
    chaos(options.kills, options.seed)
