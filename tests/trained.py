"""Run folders as a training leaves them, of networks that were never trained."""

import json
from pathlib import Path

import torch

from spatialseg.run.folder import RunFolder
from spatialseg.task import SegmentationTask

SMALL = {"encoder": "resnet18", "encoder_weights": None, "network_args": {"decoder_channels": [32, 16, 8, 8, 8]}}


def make_run(runs: Path, classes: int = 1, name: str = "tiny", keep_aspect: bool = False, size: int = 64) -> RunFolder:
    """Make the folder of a run `<name>/shapes/seed0`, whose network gives every image another, smooth map."""
    folder = RunFolder(runs / name / "shapes" / "seed0" / "2026-01-01_00-00-00")
    folder.checkpoints.mkdir(parents=True)
    data = {"size": 32, "eval_size": size, "keep_aspect": keep_aspect, "stride": 32}
    folder.config.write_text(json.dumps({"data": data}))  # JSON is YAML
    summary = {"experiment": name, "data": "shapes", "seed": 0, "finished": True, "cut": 0.35, "precision": "32-true"}
    folder.write_summary(summary | {"best_checkpoint": str(folder.best)})
    torch.manual_seed(0)
    task = SegmentationTask(classes=classes, **SMALL)
    with torch.no_grad():
        task.network.segmentation_head[0].weight.mul_(20)  # so that there is something to see
    names = ["salient"] if classes == 1 else [f"kind {index}" for index in range(classes)]
    state = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), "epoch": 3, "global_step": 9}
    state["pytorch-lightning_version"] = "2.6.0"
    state["SegmentationDataModule"] = {"name": "shapes", "class_names": names, **data}
    torch.save(state, folder.best)
    return folder
