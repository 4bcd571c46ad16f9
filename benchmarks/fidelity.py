"""How faithfully does the loss stand for the measure? 1 − loss against the exact weighted F, on real predictions.

Takes checkpoints of several stages of one training, predicts the test images with each, and compares for every
`dependency`: mean and worst absolute difference, Kendall's τ over images (mean of the stages) and over stages (of the
means). Writes benchmarks/results/fidelity_<data>.json and runs/fidelity_<data>.png. `make fidelity` trains first.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from common import save
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import track
from scipy.stats import kendalltau

from spatialseg.data import SegmentationDataModule
from spatialseg.functional import weighted_f_measure
from spatialseg.losses import WeightedFBetaLoss
from spatialseg.report.examples import make_source
from spatialseg.report.pictures import SIZE, plots
from spatialseg.report.table import Column, Table
from spatialseg.run.folder import RunFolder
from spatialseg.task import SegmentationTask

DEPENDENCIES = ("reference", "local", None)


def measure(checkpoints: list[Path], data: dict) -> tuple[NDArray, NDArray]:
    """Return the exact weighted F, (stages, images), and 1 − loss, (dependencies, stages, images)."""
    module = SegmentationDataModule(**{**data, "source": make_source(data)})
    module.setup("test")
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


def draw_fidelity(exact: NDArray, approximate: dict[str, NDArray]) -> Figure:
    """Draw by how much approximations miss the exact weighted F, a panel each, a colour per stage of a training.

    Args:
        exact: The exact measure, (stages, images).
        approximate: Of each approximation the same.
    """
    title = "What the loss takes for the weighted F-measure, less that measure; a point per test image"
    figure, axes = plots(len(approximate), title, share_y=True)
    for axis, (name, values) in zip(axes, approximate.items(), strict=True):
        axis.axhline(0, color="gray", linewidth=0.8)
        for stage, (x, y) in enumerate(zip(exact, values - exact, strict=True)):
            axis.scatter(x, y, s=6, alpha=0.5, linewidths=0, label=f"stage {stage + 1}")
        axis.set_title(f"dependency = {name}", fontsize=SIZE)
        axis.set(xlabel="weighted F, exact", xlim=(0, 1))
    axes[0].set_ylabel("(1 − loss) − weighted F")
    axes[0].legend(fontsize=SIZE, markerscale=2, loc="lower left")
    return figure


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


def main() -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder, for its data")
    parser.add_argument("checkpoints", type=Path, nargs="+", help="checkpoints, the earliest first")
    options = parser.parse_args()
    run = RunFolder(options.run)
    exact, approximate = measure(options.checkpoints, run.read_config()["data"])
    values = {str(dependency): each for dependency, each in zip(DEPENDENCIES, approximate, strict=True)}
    rows = {name: summarise(exact, each) for name, each in values.items()}

    stages, images = exact.shape
    columns = [Column(key, key.replace("_", " ")) for key in ("dependency", *rows["None"])]
    title = f"{stages} stages, {images} test images each"
    Table(columns, [{"dependency": name, **row} for name, row in rows.items()], title).print()
    data = run.data
    picture = Path("runs", f"fidelity_{data}.png")
    draw_fidelity(exact, values).savefig(picture, dpi=90)
    record = {"data": data, "stages": stages, "images": images, "exact_mean": exact.mean(1).tolist(), "rows": rows}
    print(f"Written to {save(f'fidelity_{data}', record)} and {picture}")


if __name__ == "__main__":
    main()
