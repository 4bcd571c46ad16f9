"""How fast the measures are: against PySODMetrics, per pixel, over threads, on files, and beside a network.

    python benchmarks/measures.py                                  # about 4 minutes
    python benchmarks/measures.py --pred MAPS --gt MASKS           # time training's maps and `score` on your files

Every ratio is taken in this one process: both sides are warmed up, then run in turn; one thread each unless the line
says otherwise. What runs on one thread is timed in CPU time, which other processes disturb less, the rest in wall time.
Reported are median and interquartile range of at least 20 repeats (3 for whole folders of files). Results go to
benchmarks/results/measures.json, with the load of the machine: a ratio taken while other processes ran is worth less,
that of two threads to one nothing. Without files of yours they are scenes drawn here, and go to measures_drawn.json.
"""

import argparse
import itertools
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import py_sod_metrics
import torch
from common import alternate, save, shown
from PIL import Image
from scipy import ndimage

from spatialseg.conventions import PRESETS
from spatialseg.data.files import find_root, read_map, read_mask
from spatialseg.data.source import DataError
from spatialseg.metrics import (
    EnhancedAlignmentMeasure,
    MeanAbsoluteError,
    SaliencyFMeasure,
    StructureMeasure,
    WeightedFMeasure,
    saliency_metrics,
)
from spatialseg.score import score

SIZES = (224, 384, 512, 1024, 2048)
Record = dict[str, float | int | str | list[float]]


def scene(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a grey-level map that is nowhere exactly right, and a mask of irregular outline."""
    rng = np.random.default_rng(seed)
    coarse = ndimage.zoom(ndimage.gaussian_filter(rng.normal(size=(32, 32)), 4), size / 32, order=1)
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    mask = coarse / coarse.std() - 8 * (rows**2 + columns**2) > -0.2
    return soft_map(mask, rng), mask.astype(np.uint8) * 255


def soft_map(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a grey-level map of a square mask: moved, with soft borders, and noisy everywhere."""
    soft = ndimage.uniform_filter(np.roll(mask, len(mask) // 40, axis=1).astype(np.float64), len(mask) // 30)
    return (230 * soft + rng.integers(0, 25, mask.shape)).astype(np.uint8)


def compare(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Record:
    """Time both, print a line and return it."""
    times = alternate({"": ours, "reference_": theirs}, repeats, clock)
    record: Record = {"name": name}
    record |= {f"{side}{key}": value for side, taken in times.items() for key, value in taken.items()}
    record |= {"clock": clock.__name__, "ratio": times["reference_"]["ms"] / times[""]["ms"], "repeats": repeats}
    print(f"{name:42} {shown(times[''])}   reference {shown(times['reference_'])}   ×{record['ratio']:.1f}")
    return record


def of_one(metric: object, prediction: torch.Tensor, target: torch.Tensor) -> Callable[[], object]:
    """Score one map through the metric class, with all its checks."""
    return lambda: metric.update(prediction, target)


def against_pysodmetrics(repeats: int) -> list[Record]:
    """Weighted F at every size, the other measures at 384²; the values must agree."""
    records = []
    kinds = {
        "weighted F": (lambda: WeightedFMeasure(normalize=True), py_sod_metrics.WeightedFmeasure, "wfm", SIZES),
        "S-measure": (lambda: StructureMeasure(normalize=True), py_sod_metrics.Smeasure, "sm", (384,)),
        "E-measure": (lambda: EnhancedAlignmentMeasure(normalize=True), py_sod_metrics.Emeasure, "em", (384,)),
        "F-measure": (lambda: SaliencyFMeasure(normalize=True), py_sod_metrics.Fmeasure, "fm", (384,)),
        "MAE": (lambda: MeanAbsoluteError(normalize=True), py_sod_metrics.MAE, "mae", (384,)),
    }
    for name, (ours, theirs, key, sizes) in kinds.items():
        for size in sizes:
            grey, mask = scene(size)
            metric, reference = ours(), theirs()
            prediction, target = torch.from_numpy(grey)[None], torch.from_numpy(mask > 128)[None]
            # Bound now, since the names change in the next round.
            step = lambda reference=reference, grey=grey, mask=mask: reference.step(grey, mask)  # noqa: E731
            record = compare(f"{name} {size}²", of_one(metric, prediction, target), step, repeats, time.process_time)
            expected = reference.get_results()[key]
            found = metric.compute()
            if isinstance(expected, dict):
                expected, found = expected["adp"], next(iter(found.values()))
            record["difference"] = abs(float(found) - float(expected))
            record["ns_per_pixel"] = float(record["ms"]) * 1e6 / size**2
            assert record["difference"] < 1e-9, record
            records.append(record)
    return records


def resized_pairs(size: int, gt: Path, pred: Path | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return maps and masks of 8 of a folder's files, resized to a square; maps made of the masks where there are none.

    The files are spread evenly over the folder, so that small, large and several objects are among them.
    """
    paths = sorted(gt.glob("*.png"))
    found = []
    for seed, path in enumerate(paths[:: max(1, len(paths) // 8)][:8]):
        mask = np.asarray(Image.open(path).convert("L").resize((size, size), Image.Resampling.NEAREST)) > 127
        if pred:
            resized = Image.open(pred / path.name).convert("L").resize((size, size), Image.Resampling.BILINEAR)
        grey = np.asarray(resized) if pred else soft_map(mask, np.random.default_rng(seed))
        found.append((grey, mask * np.uint8(255)))
    return found


def as_training_gives(repeats: int, pred: Path | None, gt: Path | None) -> list[Record]:
    """Weighted F of float32 maps and int64 masks, stretched, against PySODMetrics on the same maps in grey levels.

    Of drawn scenes, of the masks of photographs (ECSSD) if they are found, and of the files if there are some.
    """
    sources: dict[str, Callable[[int], list[tuple[np.ndarray, np.ndarray]]]] = {
        "scenes": lambda size: [scene(size, seed) for seed in range(8)]
    }
    try:
        masks = find_root("ecssd") / "masks"
        sources["photographs"] = lambda size: resized_pairs(size, masks, None)
    except DataError as error:
        print(f"masks of photographs are not timed: {error}")
    if pred and gt:
        sources["files"] = lambda size: resized_pairs(size, gt, pred)
    records = []
    for source, size in itertools.product(sources, (224, 384, 1024)):
        pairs = sources[source](size)
        batches = [
            (torch.from_numpy(grey / np.float32(255))[None], torch.from_numpy((mask > 128).astype(np.int64))[None])
            for grey, mask in pairs
        ]
        metric, reference = WeightedFMeasure(normalize=True, empty_target="zero"), py_sod_metrics.WeightedFmeasure()

        def ours(metric: WeightedFMeasure = metric, batches: list = batches) -> None:
            for prediction, target in batches:
                metric.update(prediction, target)

        def theirs(reference: object = reference, pairs: list = pairs) -> None:
            for grey, mask in pairs:
                reference.step(grey, mask)

        name = f"weighted F, {len(pairs)} {source} {size}², float32"
        record = compare(name, ours, theirs, repeats, time.process_time)
        record["difference"] = abs(float(metric.compute()) - float(reference.get_results()["wfm"]))
        assert record["difference"] < 1e-5, record  # the stretch in float32
        records.append(record)
    return records


def over_threads(repeats: int) -> Record:
    """Score a batch of 8 with two threads, and with one on each of two cores in turn.

    Two cores of a virtual machine can differ by a factor of two, as their neighbours work or rest, and a single thread
    moves to the faster one: it is held on each, and the mean of the two rates is what two threads are compared with.
    """
    grey, mask = zip(*(scene(384, seed) for seed in range(8)), strict=True)
    prediction, target = torch.from_numpy(np.stack(grey)), torch.from_numpy(np.stack(mask) > 128)
    metric = WeightedFMeasure()
    cores = sorted(os.sched_getaffinity(0))[:2]

    def two() -> None:
        torch.set_num_threads(2)
        metric.update(prediction, target)
        torch.set_num_threads(1)

    def one(core: int) -> None:
        os.sched_setaffinity(0, {core})
        metric.update(prediction, target)
        os.sched_setaffinity(0, cores)

    alone = {f"one on core {core}": lambda core=core: one(core) for core in cores}
    times = alternate({"two": two, **alone}, repeats)
    both, alone_ms = times.pop("two"), [each["ms"] for each in times.values()]
    ratio = float(np.mean([1 / ms for ms in alone_ms])) ** -1 / both["ms"]
    each = ", ".join(f"{ms:.2f}" for ms in alone_ms)
    print(f"weighted F, 8×384²: 2 threads {both['ms']:.2f} ms; 1 thread on each core {each} ms   ×{ratio:.2f}")
    name = "weighted F, 8×384²: 2 threads against the mean rate of 1 on each core"
    return {"name": name, **both, "alone_ms": alone_ms, "ratio": ratio}


def on_files(pred: Path, gt: Path) -> list[Record]:
    """Score files with all measures, against a loop of PySODMetrics over its five; three rounds, reading included."""
    paths = sorted(path for path in gt.iterdir() if path.suffix == ".png")

    def loop() -> None:
        measures = [py_sod_metrics.WeightedFmeasure(), py_sod_metrics.Smeasure(), py_sod_metrics.Emeasure()]
        measures += [py_sod_metrics.Fmeasure(), py_sod_metrics.MAE()]
        for path in paths:
            mask, grey = read_mask(path, 1, PRESETS["pysodmetrics"].mask_threshold) * 255, read_map(pred / path.name)
            for measure in measures:
                measure.step(grey, mask)

    def ours(workers: int) -> None:
        score({"maps": pred}, {"masks": gt}, PRESETS["pysodmetrics"], workers=workers)

    count = f"{len(paths)} files"
    records = [compare(f"score {count}, {n} worker(s)", lambda n=n: ours(n), loop, 3) for n in (1, 2)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        ours(2)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"score {count}: three more times took {growth / 1024:.1f} MiB more memory")
    return [*records, {"name": "memory growth of score", "MiB": growth / 1024}]


def beside_a_network(repeats: int) -> Record:
    """Add the full set of measures to the inference of a U-Net on ResNet-34 at 352², as a test does; all threads."""
    import segmentation_models_pytorch as smp

    network = smp.Unet("resnet34", encoder_weights=None).eval()
    images = torch.rand(4, 3, 352, 352)
    masks = torch.from_numpy(np.stack([scene(352, seed)[1] for seed in range(4)]) > 128)
    metrics = saliency_metrics(full=True)
    torch.set_num_threads(os.cpu_count() or 1)

    @torch.inference_mode()
    def infer() -> torch.Tensor:
        return network(images).sigmoid()[:, 0]

    probabilities = infer()
    times = alternate({"inference": infer, "measures": lambda: metrics.update(probabilities, masks)}, repeats)
    inference, measures = times["inference"]["ms"], times["measures"]["ms"]
    torch.set_num_threads(1)
    share = measures / inference
    print(f"U-Net ResNet-34 4×352²: {inference:.0f} ms; all measures {measures:.0f} ms more, {share:.1%}")
    return {"name": "all measures beside inference", "inference_ms": inference, "measures_ms": measures, "share": share}


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pred", type=Path, help="folder of PNG maps")
    parser.add_argument("--gt", type=Path, help="folder of PNG masks of the same names")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    records = against_pysodmetrics(options.repeats)
    records += as_training_gives(options.repeats, options.pred, options.gt)
    records.append(over_threads(options.repeats))
    own_files = options.pred and options.gt
    if own_files:
        records += on_files(options.pred, options.gt)
    else:
        with tempfile.TemporaryDirectory() as folder:
            for kind in ("maps", "masks"):
                (Path(folder) / kind).mkdir()
            for seed in range(60):
                for kind, grey in zip(("maps", "masks"), scene(384, seed), strict=True):
                    Image.fromarray(grey).save(Path(folder) / kind / f"{seed}.png")
            records += on_files(Path(folder) / "maps", Path(folder) / "masks")
    records.append(beside_a_network(options.repeats))
    result = {
        "command": "python benchmarks/measures.py" + (" --pred MAPS --gt MASKS" if own_files else ""),
        "load_at_start": load,
        "versions": {name: version(name) for name in ("numpy", "pysodmetrics", "scipy")},
        "records": records,
    }
    written = save("measures" if own_files else "measures_drawn", result)
    print(f"Written to {written}; other processes took {load:.1f} CPUs when it started")


if __name__ == "__main__":
    main()
