"""Score trained networks once more: on sloppy test masks, after post-processing, or by where their mistakes are.

    python experiments/rescore.py ranking saliency-bce/ecssd/seed0 saliency-structure/ecssd/seed0 ...
    python experiments/rescore.py filter saliency-bce/ecssd saliency-structure-to-wfb/ecssd
    python experiments/rescore.py mistakes saliency-bce/ecssd saliency-structure-to-wfb/ecssd
    python experiments/rescore.py windows streets-ce/camvid streets-lal/camvid
    python experiments/rescore.py statistics saliency-bce/ecssd saliency-structure-to-wfb/ecssd
    python experiments/rescore.py cuts saliency-wfb/ecssd saliency-wfb-nospace/ecssd
    python experiments/rescore.py stages stages-bce-rate0.0005/ecssd stages-structure-rate0.0005/ecssd

A run is a folder, or a name as `spatialseg compare` takes it; all that is needed of it is its checkpoint,
for `statistics` and `cuts` its test's scores, too, and for `stages` its log alone.
`ranking` scores each network against clean test masks and against those of every kind of `SloppyMasks`.
`filter` smooths each map along its photograph's edges with a guided filter (He, Sun, Tang, PAMI 2013; that of kornia,
`pip install kornia`): its radius, its ε and the threshold are chosen on the validation images by the weighted F-measure
of masks. Of the dense CRF there is no kept package: those on PyPI were last released in 2018 to 2021.
`mistakes` says what share of the validation images' pixels is missed, and falsely found, by distance to the contour.
`windows` averages the logits of several classes over windows, as the locally adaptive loss reads them.
`statistics` lets normalisation layers of networks of one class keep the mean and variance of an epoch of training
batches, as `average_statistics` does while it trains; the threshold is chosen anew.
`cuts` chooses the threshold among higher ones, too, as suits networks whose masks are best at the highest of the runs'.
`stages` takes from the run's log what its network was worth after each epoch, to training and validation images.
Figures go to experiments/results/rescored/<what>.json, beside those of other runs; `make tables` shows them.
"""

import argparse
import csv
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torch.optim.swa_utils import update_bn

import spatialseg
from spatialseg.conventions import Conventions
from spatialseg.data.module import SegmentationDataModule
from spatialseg.data.sloppy import KINDS, SloppyMasks
from spatialseg.data.source import Sample, Source, Split
from spatialseg.evidence import DIGITS, EXPERIMENTS
from spatialseg.functional.dispatch import one_thread
from spatialseg.functional.distance import distance_to_foreground
from spatialseg.inference.model import Model
from spatialseg.metrics.images import ImageCounts, count_image, scores_of
from spatialseg.report.examples import make_source
from spatialseg.run.folder import RunFolder, find_runs
from spatialseg.scores import Scores
from spatialseg.task import CUTS

RADII, EPSILONS = (8, 16, 32), (1e-5, 1e-4, 1e-3)
HIGHER = (0.97, 0.98, 0.99, 0.995, 0.999)
WINDOW = 7
BANDS = (1, 2, 4, 8, 16, 32)  # pixels to the nearest one on the other side of the contour, where each band begins
LOGGED = {"train/iou": "training IoU", "val/iou": "IoU", "val/weighted_f": "Fw"}
Predicted = list[tuple[Sample, NDArray[np.float32]]]


def main() -> None:
    """Score the runs and write their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WAYS)
    parser.add_argument("run", nargs="+")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run folders (default: runs)")
    parser.add_argument("--out", type=Path, default=EXPERIMENTS / "results" / "rescored", help="folder of the record")
    options = parser.parse_args()
    path = options.out / f"{options.what}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(path.read_text()) if path.is_file() else {}
    runs = [run for name in options.run for run in find_runs(name, options.runs)]
    for run in runs if options.what != "stages" else ():  # which reads the log alone
        classes = source_of(run).classes
        if (classes > 1) != (options.what == "windows"):
            parser.error(
                f"{options.what} is of {'several classes' if classes == 1 else 'one class'}, {run} of {classes}"
            )
    for run in track(runs, options.what):
        found = WAYS[options.what](run)
        figures = {way: {k: float(f"{v:.{DIGITS}g}") for k, v in values.items()} for way, values in found}
        record[f"{run.experiment}/{run.data}/seed{run.seed}"] = figures
        path.write_text(json.dumps(dict(sorted(record.items())), indent=1) + "\n")
    print("Written to", path)


def on_sloppy_masks(run: RunFolder) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the figures of a run against each kind of test masks."""
    source = source_of(run)
    predicted = predict(spatialseg.load(run.path), source, "test")
    cut = run.read_summary()["cut"]
    conventions = Conventions(cuts=(cut,), cut=cut)
    yield "clean", score(predicted, conventions).figures()
    for kind in KINDS:
        spoil = SloppyMasks(source, kind).spoil  # type: ignore[arg-type]
        sloppy = [
            ({**sample, "mask": spoil(sample["mask"].as_subclass(Tensor), place)}, probability)
            for place, (sample, probability) in enumerate(predicted)
        ]
        yield kind, score(sloppy, conventions).figures()


def after_filter(run: RunFolder) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the figures of a run's maps as they are, and filtered as suits the validation images best."""
    source = source_of(run)
    model = spatialseg.load(run.path)
    validation, test = predict(model, source, "val"), predict(model, source, "test")
    plain, chosen = tuned(validation)
    yield "as it is", {**score(test, chosen).figures(), "validated": plain}
    tried = {each: tuned(filtered(validation, *each)) for each in grid()}
    best = max(tried, key=lambda each: tried[each][0])
    extra = {"validated": tried[best][0], "radius": float(best[0]), "epsilon": best[1]}
    yield "filtered", {**score(filtered(test, *best), tried[best][1]).figures(), **extra}


def by_distance(run: RunFolder) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield, of the objects' pixels and of the others, what share is wrong in each band, all validation images pooled.

    Masks are cut where the run cuts its own.
    """
    cut = run.read_summary()["cut"]
    pixels, wrong = (np.zeros((2, len(BANDS))) for _ in range(2))
    for sample, probability in predict(spatialseg.load(run.path), source_of(run), "val"):
        mask = sample["mask"].as_subclass(Tensor)
        found = torch.from_numpy(probability) >= cut
        sides = mask == 1, mask == 0
        for place, (region, other, mistaken) in enumerate(zip(sides, sides[::-1], (~found, found), strict=True)):
            distance = distance_to_foreground(other[None])[0][region].numpy()
            band = np.searchsorted(BANDS, distance, side="right") - 1
            pixels[place] += np.bincount(band, minlength=len(BANDS))
            wrong[place] += np.bincount(band, mistaken[region].numpy(), minlength=len(BANDS))
    for kind, shares in zip(("missed", "falsely found"), wrong / pixels.clip(1), strict=True):
        yield kind, {f"from {start} px": float(share) for start, share in zip(BANDS, shares, strict=True)}


def read_in_windows(run: RunFolder) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the figures of a run of several classes as it is, and with its logits averaged over windows."""
    source = source_of(run)
    predicted = predict(spatialseg.load(run.path), source, "test")
    conventions = Conventions(cuts=(0.5,), further=("spurious",))
    yield "as it is", score(predicted, conventions, source.class_names).figures()
    averaged = [(sample, window_means(probabilities)) for sample, probabilities in predicted]
    yield f"windows of {WINDOW}", score(averaged, conventions, source.class_names).figures()


def window_means(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities, (C, H, W), of logits that are means over windows; at the sides of what is inside."""
    logits = torch.from_numpy(probabilities).clamp(min=torch.finfo(torch.float32).tiny).log()
    means: Tensor = avg_pool2d(logits, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)
    found: NDArray[np.float32] = means.softmax(dim=0).numpy()
    return found


def with_averaged_statistics(run: RunFolder) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the figures of a run's test, and those with running statistics of a whole epoch of training batches."""
    yield "as it is", run.scores().figures()
    settings = run.read_config()["data"]
    data = SegmentationDataModule(**{**settings, "source": make_source(settings), "num_workers": 0, "cache_gb": 0.0})
    data.setup("fit")
    model, source = spatialseg.load(run.path), source_of(run)
    with torch.inference_mode():
        update_bn((batch["image"] for batch in data.train_dataloader()), model)
    yield "averaged", tuned_and_tested(model, source, CUTS).figures()


def with_higher_cuts(run: RunFolder) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the figures of a run's test, and those of masks whose threshold was chosen among higher ones, too."""
    yield "as it is", run.scores().figures()
    found = tuned_and_tested(spatialseg.load(run.path), source_of(run), (*CUTS, *HIGHER))
    yield "higher cuts", {**found.figures(), "cut": found.conventions["cut"]}


def by_epoch(run: RunFolder) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what a run logged once an epoch, under the name to show."""
    with run.metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for column, label in LOGGED.items():
        yield label, {f"epoch {int(row['epoch']) + 1}": float(row[column]) for row in rows if row.get(column)}


def grid() -> Iterator[tuple[int, float]]:
    """Yield radius and ε of each filter tried."""
    yield from ((radius, epsilon) for radius in RADII for epsilon in EPSILONS)


def filtered(maps: Predicted, radius: int, epsilon: float) -> Predicted:
    """Return probabilities that follow the edges of their photographs."""
    from kornia.filters import guided_blur

    smooth = []
    for sample, probability in maps:
        image = sample["image"].as_subclass(Tensor)[None].float() / 255
        values = guided_blur(image, torch.from_numpy(probability)[None, None], 2 * radius + 1, epsilon)
        smooth.append((sample, values[0, 0].clamp(0, 1).numpy()))
    return smooth


def source_of(run: RunFolder) -> Source:
    """Return the data set of a run, its masks as they are."""
    source = make_source(run.read_config()["data"])
    return source.source if isinstance(source, SloppyMasks) else source


def tuned(validation: Predicted, cuts: tuple[float, ...] = CUTS) -> tuple[float, Conventions]:
    """Return the weighted F-measure of validation images' masks, cut where it is highest, and how to score so."""
    conventions = Conventions(cuts=cuts)
    curve = np.nan_to_num(score(validation, conventions).mean_curve("weighted_f"))
    return float(curve.max()), replace(conventions, cut=cuts[int(curve.argmax())])


def tuned_and_tested(model: Model, source: Source, cuts: tuple[float, ...]) -> Scores:
    """Score a network on the test images, their masks cut where those of validation images are best."""
    _, chosen = tuned(predict(model, source, "val"), cuts)
    return score(predict(model, source, "test"), chosen)


def predict(model: Model, source: Source, split: Split) -> Predicted:
    """Return the samples of a split with their foreground probabilities, (H, W), or those of C classes, (C, H, W)."""
    samples = source.dataset(split)
    chosen = (samples[place] for place in range(len(samples)))  # type: ignore[arg-type]
    return [(sample, model.probabilities(sample["image"].as_subclass(Tensor))) for sample in chosen]


def score(maps: Predicted, conventions: Conventions, class_names: Sequence[str] = ("foreground",)) -> Scores:
    """Score maps against the masks of their samples."""

    def count(pair: tuple[Sample, NDArray[np.float32]]) -> ImageCounts:
        sample, probability = pair
        mask = sample["mask"].as_subclass(Tensor)
        return count_image(sample["name"], torch.from_numpy(probability), mask, conventions, len(class_names))

    with ThreadPoolExecutor(os.cpu_count()) as pool, one_thread():
        return scores_of(list(pool.map(count, maps)), conventions, class_names)


WAYS = {
    "ranking": on_sloppy_masks,
    "filter": after_filter,
    "mistakes": by_distance,
    "windows": read_in_windows,
    "statistics": with_averaged_statistics,
    "cuts": with_higher_cuts,
    "stages": by_epoch,
}

if __name__ == "__main__":
    main()
