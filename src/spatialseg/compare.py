"""Runs against runs: the same test images, the measures side by side, and pictures of where they differ."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jsonargparse import ArgumentParser
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from spatialseg.data import SegmentationDataModule
from spatialseg.data.samples import EvaluationSamples
from spatialseg.functional import weighted_f_measure
from spatialseg.metrics import saliency_metrics
from spatialseg.task import SegmentationTask

RESAMPLES = 10_000


class ComparisonError(ValueError):
    """The runs cannot be compared; the message says which and why."""


def load_run(folder: Path) -> tuple[str, dict[str, Any], SegmentationTask]:
    """Load what a run folder holds.

    Returns:
        The experiment's name, the configuration of its data, and the best checkpoint's task in evaluation mode.

    Raises:
        ComparisonError: The folder holds no finished run, or one of several classes.
    """
    config, checkpoint = folder / "config.yaml", folder / "checkpoints" / "best.ckpt"
    for path in (config, checkpoint):
        if not path.is_file():
            raise ComparisonError(f"{folder} is not the folder of a finished run: {path} is missing")
    settings = yaml.safe_load(config.read_text())
    task = SegmentationTask.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    if task.hparams["classes"] != 1:
        raise ComparisonError(f"{folder} has {task.hparams['classes']} classes; only binary runs are compared")
    return settings["experiment"], settings["data"], task


def make_data(settings: dict[str, Any]) -> SegmentationDataModule:
    """Make the data of a run's configuration."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SegmentationDataModule, "data")
    data = parser.instantiate(parser.parse_object({"data": settings})).data
    assert isinstance(data, SegmentationDataModule)
    data.setup("test")
    return data


def paired_bootstrap(difference: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of a mean difference, resampling the images.

    Args:
        difference: One value per image, shape (N,).
        seed: Of the resampling.
    """
    picks = np.random.default_rng(seed).integers(0, len(difference), (RESAMPLES, len(difference)))
    low, high = np.quantile(difference[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def draw_comparison(rows: Sequence[tuple[str, Tensor, Tensor, Sequence[tuple[str, Tensor, float]]]]) -> Figure:
    """Draw images with ground truth and the prediction of each run, one row each.

    Args:
        rows: Name, image uint8 (3, H, W), mask (H, W), and of each run its name, probabilities (H, W) and weighted F.
    """
    columns = 2 + len(rows[0][3])
    figure = Figure(figsize=(2.2 * columns, 2.1 * len(rows) + 0.2), layout="constrained")
    for axes, (name, image, mask, predictions) in zip(
        figure.subplots(len(rows), columns, squeeze=False), rows, strict=True
    ):
        axes[0].imshow(image.permute(1, 2, 0).numpy())
        axes[0].set_title(name, fontsize=9)
        axes[1].imshow(mask.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes[1].set_title("ground truth", fontsize=9)
        for axis, (run, probability, score) in zip(axes[2:], predictions, strict=True):
            axis.imshow(probability.numpy(), cmap="gray", vmin=0, vmax=1)
            axis.set_title(f"{run}: {score:.3f}", fontsize=9)
        for axis in axes:
            axis.set_axis_off()
    return figure


def compare(folders: Sequence[Path], out: Path, images: int = 5) -> Table:
    """Score the best checkpoints of several runs on the same test images.

    Args:
        folders: Run folders, the baseline first; all of the same data.
        out: Folder for `comparison.md` and `comparison.png`.
        images: How many images to draw: equally spaced ranks of the difference in weighted F between the last run and
            the first, from the greatest loss to the greatest gain.

    Returns:
        The measures, a column per run; the last row is the mean difference in weighted F to the first run with its 95 %
        interval (paired bootstrap over images).

    Raises:
        ComparisonError: A folder holds no finished run, or the runs are of different data.
    """
    runs = [load_run(folder) for folder in folders]
    for folder, (_, data, _) in zip(folders, runs, strict=True):
        if (data["source"], data["eval_size"]) != (runs[0][1]["source"], runs[0][1]["eval_size"]):
            raise ComparisonError(f"{folder} and {folders[0]} are of different data or evaluation size")
    names = [name if [n for n, *_ in runs].count(name) == 1 else f"{name} {i}" for i, (name, *_) in enumerate(runs, 1)]
    batches = make_data(runs[0][1]).test_dataloader()
    measures = [saliency_metrics(full=True) for _ in runs]
    scores: list[list[float]] = [[] for _ in runs]
    for batch in track(batches, "predicting", transient=True, disable=not sys.stdout.isatty()):
        for (_, _, task), own, measure in zip(runs, scores, measures, strict=True):
            for probability, mask in zip(_predict(task, batch), batch["mask"], strict=True):
                own += weighted_f_measure(probability[None], mask[None]).f.tolist()
                measure.update(probability[None], mask[None])

    per_image = np.array(scores)
    gain = per_image[-1] - per_image[0]
    order = np.argsort(gain)
    chosen = order[np.linspace(0, len(order) - 1, min(images, len(order))).round().astype(int)]
    out.mkdir(parents=True, exist_ok=True)
    draw_comparison([_row(batches, int(index), runs, names, per_image) for index in chosen]).savefig(
        out / "comparison.png", dpi=100
    )

    table = Table("measure", *names, title=f"{len(gain)} test images")
    results = [{name: float(value) for name, value in measure.compute().items()} for measure in measures]
    for name in sorted(results[0]):
        table.add_row(name, *(f"{result[name]:.4f}" for result in results))
    differences = ["–"]
    for own in per_image[1:]:
        low, high = paired_bootstrap(own - per_image[0])
        differences.append(f"{(own - per_image[0]).mean():+.4f} [{low:+.4f}, {high:+.4f}]")
    table.add_row("Δ weighted_f", *differences)
    cells = [list(column.cells) for column in table.columns]
    header = [str(column.header) for column in table.columns]
    lines = [header, ["---"] * len(header), *zip(*cells, strict=True)]
    (out / "comparison.md").write_text("".join(f"| {' | '.join(map(str, line))} |\n" for line in lines))
    return table


def _predict(task: SegmentationTask, batch: dict[str, Any]) -> list[Tensor]:
    with torch.inference_mode():
        return [task.probabilities(logits)[0] for logits in task.native_logits(batch)]


def _row(
    batches: DataLoader[Any],
    index: int,
    runs: Sequence[tuple[str, dict[str, Any], SegmentationTask]],
    names: Sequence[str],
    per_image: NDArray[np.float64],
) -> tuple[str, Tensor, Tensor, list[tuple[str, Tensor, float]]]:
    assert isinstance(batches.dataset, EvaluationSamples)
    batch = batches.collate_fn([batches.dataset[index]])
    predictions = [
        (name, _predict(task, batch)[0], float(score))
        for name, (_, _, task), score in zip(names, runs, per_image[:, index], strict=True)
    ]
    image = batches.dataset.samples[index]["image"].as_subclass(Tensor)
    return batch["name"][0], image, batch["mask"][0], predictions


def main(args: Sequence[str]) -> None:
    """Compare runs from the command line.

    Raises:
        SystemExit: With status 2 when the runs cannot be compared.
    """
    parser = argparse.ArgumentParser(
        "spatialseg compare", description="Show runs side by side, on the same test images."
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, the baseline first")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/comparison"), help="folder for the table and the picture"
    )
    parser.add_argument("--images", type=int, default=5, help="how many images to draw")
    options = parser.parse_args(args)
    try:
        table = compare(options.runs, options.out, options.images)
    except ValueError as error:
        parser.error(str(error))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    print(f"Written to {options.out}: comparison.md, comparison.png")
