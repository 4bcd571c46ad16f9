"""How faithfully does the loss stand for the measure? 1 − loss against the exact weighted F, on real predictions.

Takes checkpoints of several stages of one training, predicts the test images with each, and compares for every
`dependency`: mean and worst absolute difference, Kendall's τ over images (mean of the stages) and over stages (of the
means). Writes benchmarks/results/fidelity_<data>.json and runs/fidelity_<data>.png. `make fidelity` trains first.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import yaml
from common import save
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import kendalltau

from spatialseg.compare import make_data
from spatialseg.functional import weighted_f_measure
from spatialseg.losses import WeightedFBetaLoss
from spatialseg.task import SegmentationTask

DEPENDENCIES = ("reference", "local", None)


def measure(checkpoints: list[Path], data: dict) -> tuple[NDArray, NDArray]:
    """Return the exact weighted F, (stages, images), and 1 − loss, (dependencies, stages, images)."""
    module = make_data(data)
    losses = [WeightedFBetaLoss(dependency=dependency, reduction="none") for dependency in DEPENDENCIES]
    exact, approximate = [], []
    for checkpoint in track(checkpoints, "stages"):
        task = SegmentationTask.load_from_checkpoint(checkpoint, weights_only=True).eval()
        exact.append([])
        approximate.append([[] for _ in losses])
        with torch.inference_mode():
            for batch in module.test_dataloader():
                for logits, mask in zip(task.native_logits(batch), batch["mask"], strict=True):
                    exact[-1] += weighted_f_measure(logits[:, 0].double().sigmoid(), mask[None]).f.tolist()
                    for values, loss in zip(approximate[-1], losses, strict=True):
                        values += (1 - loss(logits, mask[None])).tolist()
    return np.array(exact), np.array(approximate).transpose(1, 0, 2)


def summarise(exact: NDArray, approximate: NDArray) -> dict[str, float]:
    """Compare one dependency's values with the exact ones, both (stages, images)."""
    difference = np.abs(approximate - exact)
    over_images = [kendalltau(*pair).statistic for pair in zip(exact, approximate, strict=True)]
    return {
        "mean_difference": float(difference.mean()),
        "worst_difference": float(difference.max()),
        "tau_images": float(np.mean(over_images)),
        "tau_stages": float(kendalltau(exact.mean(1), approximate.mean(1)).statistic),
    }


def draw(exact: NDArray, approximate: NDArray, names: list[str]) -> Figure:
    """Draw by how much 1 − loss misses the exact measure, a panel per dependency, a colour per stage."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    figure.suptitle("What the loss takes for the weighted F-measure, less that measure; a point per test image")
    for axis, name, values in zip(figure.subplots(1, 3, sharey=True), names, approximate, strict=True):
        axis.axhline(0, color="gray", linewidth=0.8)
        for stage, (x, y) in enumerate(zip(exact, values - exact, strict=True)):
            axis.scatter(x, y, s=6, color=f"C{stage}", alpha=0.5, linewidths=0, label=f"stage {stage + 1}")
        axis.set(title=f"dependency = {name}", xlabel="weighted F, exact", xlim=(0, 1))
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("(1 − loss) − weighted F")
    figure.axes[0].legend(fontsize=8, markerscale=2, loc="lower left")
    return figure


def main() -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder, for its data")
    parser.add_argument("checkpoints", type=Path, nargs="+", help="checkpoints, the earliest first")
    options = parser.parse_args()
    settings = yaml.safe_load((options.run / "config.yaml").read_text())
    exact, approximate = measure(options.checkpoints, settings["data"])
    names = [str(dependency) for dependency in DEPENDENCIES]
    rows = {name: summarise(exact, values) for name, values in zip(names, approximate, strict=True)}

    stages, images = exact.shape
    table = Table("dependency", *next(iter(rows.values())), title=f"{stages} stages, {images} test images each")
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.4f}" for value in row.values()))
    Console().print(table)
    data = options.run.resolve().parents[1].name
    picture = Path("runs", f"fidelity_{data}.png")
    draw(exact, approximate, names).savefig(picture, dpi=90)
    record = {"data": data, "stages": stages, "images": images, "exact_mean": exact.mean(1).tolist(), "rows": rows}
    print(f"Written to {save(f'fidelity_{data}', record)} and {picture}")


if __name__ == "__main__":
    main()
