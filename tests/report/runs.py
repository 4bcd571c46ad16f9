"""Made-up run folders."""

import csv
from pathlib import Path

import yaml

from spatialseg.run.folder import RunFolder
from spatialseg.scores import Scores

SCENES = {"class_path": "spatialseg.data.ProceduralScenes", "init_args": {"test": 6, "size": 32}}


def make_run(
    runs: Path, experiment: str, scores: Scores, seed: int = 0, source: dict | None = None, loss: str = "bce"
) -> RunFolder:
    """Write what a finished run leaves behind, with neither a checkpoint nor maps."""
    run = RunFolder.make(runs, experiment, "shapes", seed)
    model = {"encoder": "resnet18", "loss": [{"name": loss, "weight": 1.0}]}
    settings = {"experiment": experiment, "seed_everything": seed, "model": model, "data": {"source": source or SCENES}}
    run.config.write_text(yaml.safe_dump(settings))
    about = {"experiment": experiment, "data": "shapes", "seed": seed, "finished": True, "epochs": 2}
    run.write_summary({**about, "train_seconds": 90.0, "commit": "0123456789abcdef"})
    scores.save(run.path)
    with run.metrics.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "step", "lr-AdamW", "train/loss", "val/mae", "test/mae"], restval="")
        writer.writeheader()
        for epoch in range(2):
            writer.writerow({"step": 10 * epoch, "lr-AdamW": 0.001})
            writer.writerow({"epoch": epoch, "val/mae": 0.3 - 0.1 * epoch})
            writer.writerow({"epoch": epoch, "train/loss": 0.7 - 0.2 * epoch})
        writer.writerow({"epoch": 2, "test/mae": 0.15})
    return run
