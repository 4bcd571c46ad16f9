"""Score maps on disk against masks on disk, as papers do: `python -m spatialseg score --pred DIR --gt DIR`."""

import argparse
import csv
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from spatialseg.functional.alignment import alignment_from_counts
from spatialseg.functional.boundary import (
    boundary_f_from_counts,
    boundary_iou_from_counts,
    boundary_region_counts_of,
    contour_counts_of,
    masks_at,
)
from spatialseg.functional.maps import as_maps
from spatialseg.functional.saliency_f import saliency_f_from_counts
from spatialseg.functional.structure import quadrant_sums_of, structure_measure_from_sums
from spatialseg.functional.thresholds import level_histograms_of, threshold_counts_from_histograms
from spatialseg.functional.weighted_f import WeightedCounts, f_measure_from_counts, weighted_counts_of

Grey = NDArray[np.uint8]

MEASURES = {
    "weighted_f": "Fw",
    "s_measure": "S",
    "e_adaptive": "E adp",
    "e_mean": "E mean",
    "e_max": "E max",
    "f_adaptive": "F adp",
    "f_mean": "F mean",
    "f_max": "F max",
    "mae": "MAE",
    "iou": "IoU",
    "boundary_iou": "bIoU",
    "boundary_f": "bF",
}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
FORMATS = ("csv", "json", "md", "tex")


@dataclass(frozen=True)
class Conventions:
    """What toolboxes do differently.

    Args:
        normalize: Stretch every prediction to [0, 1] before it is scored.
        beta2: β² of the weighted F-measure.
        curve_beta2: β² of the thresholded F-measure.
        empty_target: Weighted F-measure of an image without foreground: `"skip"`, it is left out of that average;
            `"zero"`; `"strict"`, 1 if no prediction reaches 0.5, else 0.
        mask_threshold: Grey level above which a pixel of a mask is foreground (in a mask of values 0 and 1: where 1).
    """

    normalize: bool = False
    beta2: float = 1.0
    curve_beta2: float = 0.3
    empty_target: Literal["skip", "zero", "strict"] = "skip"
    mask_threshold: int = 127

    def describe(self) -> str:
        """Say in one sentence what was done."""
        empty = {"skip": "left out of Fw", "zero": "Fw = 0", "strict": "Fw = 1 if the prediction is empty too, else 0"}
        return (
            f"Predictions {'stretched to [0, 1]' if self.normalize else 'not stretched'}; "
            f"masks: foreground > {self.mask_threshold}; Fw: β² = {self.beta2:g}, ties of distance as in SciPy; "
            f"empty masks: {empty[self.empty_target]}; F: β² = {self.curve_beta2:g}; F and E: 256 thresholds ≥ k/255, "
            "adaptive = twice the mean; IoU (of the data set), bIoU and bF at 0.5."
        )


PRESETS = {
    "default": Conventions(),
    "pysodmetrics": Conventions(normalize=True, empty_target="zero", mask_threshold=128),
    "matlab": Conventions(empty_target="skip", mask_threshold=128),
}


class ImageScore(NamedTuple):
    """One image's values, and what only makes sense summed over images."""

    name: str
    values: dict[str, float]
    curves: NDArray[np.float64]
    """F, precision, recall and E at each threshold k/255, (4, 256)."""
    intersection: int
    union: int


@dataclass
class Result:
    """The scores of one method on one data set."""

    method: str
    dataset: str
    expected: int
    """Number of masks."""
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    resized: int = 0
    empty: int = 0
    images: dict[str, dict[str, float]] = field(default_factory=dict)
    curves: NDArray[np.float64] = field(default_factory=lambda: np.zeros((4, 256)))
    """Averages over images of F, precision, recall and E at each threshold k/255."""
    means: dict[str, float] = field(default_factory=dict)


class ScoringError(Exception):
    """Files that cannot be scored; the message names them."""


def read_grey(path: Path) -> Grey:
    """Read an image file as grey levels, (H, W).

    Raises:
        ScoringError: The file is no image.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):
                return (np.asarray(image) >> 8).astype(np.uint8)
            return np.asarray(image if image.mode == "L" else image.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ScoringError(f"{path} cannot be read as an image: {error}") from error


def read_foreground(path: Path, threshold: int) -> NDArray[np.bool_]:
    """Read a mask file: True where above the threshold, or, if it holds nothing above 1, where 1."""
    grey = read_grey(path)
    return grey > (threshold if grey.max() > 1 else 0)


def score_image(
    prediction: Grey, foreground: NDArray[np.bool_], conventions: Conventions, name: str = ""
) -> ImageScore:
    """Compute every measure of one map.

    Args:
        prediction: Grey levels, (H, W).
        foreground: Ground truth of the same shape.
        conventions: How to score.
        name: What to call the image.
    """
    return score_counts([count(prediction, foreground, conventions, name)], conventions)[0]


class Counts(NamedTuple):
    """What is counted in one image; every measure follows from it."""

    name: str
    resized: bool
    overlap: tuple[int, int]
    """Pixels in the intersection and in the union of the masks at 0.5."""
    weighted: NDArray[np.float64]
    """(3, 1); see `weighted_counts`."""
    histograms: Tensor
    """(1, 2, 257); see `level_histograms`."""
    quadrants: Tensor
    """(1, 2, 2, 2, 3); see `quadrant_sums`."""
    regions: Tensor
    """(2, 1); see `boundary_region_counts`."""
    contours: Tensor
    """(4, 1); see `contour_counts`."""


def count(
    prediction: Grey, foreground: NDArray[np.bool_], conventions: Conventions, name: str = "", resized: bool = False
) -> Counts:
    """Count in one image what its measures need; the arguments are those of `score_image`."""
    target = torch.from_numpy(np.ascontiguousarray(foreground))[None]
    maps = as_maps(torch.from_numpy(prediction.copy())[None], target, normalize=conventions.normalize)
    predicted, true = masks_at(maps)
    either, both = (predicted | true).numpy(), (predicted & true).numpy()
    overlap = int(np.count_nonzero(both)), int(np.count_nonzero(either))
    return Counts(
        name,
        resized,
        overlap,
        np.stack(weighted_counts_of(maps)),
        level_histograms_of(maps),
        quadrant_sums_of(maps),
        boundary_region_counts_of(predicted, true),
        contour_counts_of(predicted, true),
    )


def score_counts(counts: Sequence[Counts], conventions: Conventions) -> list[ImageScore]:
    """Turn counts into the measures of each image; many images at once, which takes little longer than one."""
    weighted = torch.from_numpy(np.concatenate([one.weighted for one in counts], axis=1))
    weighted_f = f_measure_from_counts(WeightedCounts(*weighted), conventions.beta2).f
    if conventions.empty_target != "skip":
        strict = conventions.empty_target == "strict"
        # Without foreground the union is what is predicted.
        empty = torch.tensor([float(strict and one.overlap[1] == 0) for one in counts], dtype=torch.float64)
        weighted_f = weighted_f.where(weighted[2] > 0, empty)
    thresholds = threshold_counts_from_histograms(torch.cat([one.histograms for one in counts]))
    f = saliency_f_from_counts(thresholds, conventions.curve_beta2)
    e = alignment_from_counts(thresholds)
    quadrants = torch.cat([one.quadrants for one in counts])
    whole = quadrants.sum(dim=(1, 2))
    overlaps = torch.tensor([one.overlap for one in counts], dtype=torch.float64).T
    false_alarms, positives, hits = whole[:, 0, 1], whole[:, 1, 0], whole[:, 1, 1]
    measures = {
        "weighted_f": weighted_f,
        "s_measure": structure_measure_from_sums(quadrants),
        "e_adaptive": e.adaptive,
        "e_mean": e.curve.mean(dim=1),
        "e_max": e.curve.amax(dim=1),
        "f_adaptive": f.adaptive,
        "f_mean": f.curve.mean(dim=1),
        "f_max": f.curve.amax(dim=1),
        "mae": (false_alarms + positives - hits) / whole[..., 0].sum(dim=1),
        "iou": torch.where(overlaps[1] > 0, overlaps[0] / overlaps[1], 1),
        "boundary_iou": boundary_iou_from_counts(torch.cat([one.regions for one in counts], dim=1)),
        "boundary_f": boundary_f_from_counts(torch.cat([one.contours for one in counts], dim=1)).f,
    }
    rows = zip(*(values.tolist() for values in measures.values()), strict=True)
    curves = torch.stack([f.curve, f.precision, f.recall, e.curve], dim=1).numpy()
    return [
        ImageScore(one.name, dict(zip(measures, row, strict=True)), curve, *one.overlap)
        for one, row, curve in zip(counts, rows, curves, strict=True)
    ]


def score(
    pred: dict[str, Path],
    gt: dict[str, Path],
    conventions: Conventions = PRESETS["default"],
    *,
    missing: Literal["error", "skip"] = "error",
    strict: bool = False,
    workers: int = 0,
    progress: bool = False,
) -> list[Result]:
    """Score the maps of several methods on several data sets.

    Args:
        pred: Folder of maps of each method. With several data sets, its subfolders are named after them.
        gt: Folder of masks of each data set. A map belongs to the mask of the same stem.
        conventions: How to score.
        missing: What a mask without a map means: an error, or that the average is over the others (the result says so).
        strict: Refuse a map of another size than its mask, instead of resizing it (bilinearly) to the mask.
        workers: Threads; 0 for one per CPU.
        progress: Show a progress bar on a terminal.

    Returns:
        A result for each method and data set.

    Raises:
        ScoringError: A folder or file is missing, unreadable, ambiguous or of the wrong size; all such files are
            counted, the first five named.
    """
    pairs: list[tuple[Result, dict[str, tuple[Path, Path]]]] = []
    for method, folder in pred.items():
        for dataset, masks in gt.items():
            truth = _by_stem(masks)
            maps = _by_stem(folder / dataset if len(gt) > 1 else folder)
            result = Result(method, dataset, len(truth))
            result.missing = sorted(truth.keys() - maps.keys())
            result.extra = sorted(maps.keys() - truth.keys())
            common = sorted(truth.keys() & maps.keys())
            if result.missing and missing == "error":
                raise ScoringError(
                    f"{method} on {dataset}: {_few(result.missing)} of {len(truth)} masks have no map in "
                    f"{folder}; add them, or score the others with --missing skip"
                )
            if not common:
                raise ScoringError(f"{method} on {dataset}: no map in {folder} has the name of a mask in {masks}")
            pairs.append((result, {name: (maps[name], truth[name]) for name in common}))

    total = sum(len(files) for _, files in pairs)
    results = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        advance = _progress_bar(total) if progress else iter(int, 1)
        for result, files in pairs:
            _score_files(result, files, conventions, strict, pool, advance)
            results.append(result)
        next(advance, None)
    return results


def _score_files(
    result: Result,
    files: dict[str, tuple[Path, Path]],
    conventions: Conventions,
    strict: bool,
    pool: ThreadPoolExecutor,
    advance: Iterator[int],
) -> None:
    def one(name: str) -> Counts | str:
        map_path, mask_path = files[name]
        try:
            prediction, foreground = read_grey(map_path), read_foreground(mask_path, conventions.mask_threshold)
        except ScoringError as error:
            return str(error)
        resized = prediction.shape != foreground.shape
        if resized:
            height, width = foreground.shape
            if strict:
                found = f"{prediction.shape[1]}×{prediction.shape[0]}"
                return f"{map_path} has {found} pixels, its mask {width}×{height}"
            prediction = np.asarray(Image.fromarray(prediction).resize((width, height), Image.Resampling.BILINEAR))
        return count(prediction, foreground, conventions, name, resized)

    def watched() -> Iterator[Counts | str]:
        for each in pool.map(one, files):
            next(advance)
            yield each

    faults, intersection, union = [], 0, 0
    counted = watched()
    while some := list(islice(counted, 64)):
        faults += [each for each in some if isinstance(each, str)]
        good = [each for each in some if not isinstance(each, str)]
        result.resized += sum(each.resized for each in good)
        result.empty += sum(not each.weighted[2].item() for each in good)
        for scored in score_counts(good, conventions) if good else ():
            result.images[scored.name] = scored.values
            result.curves += scored.curves
            intersection += scored.intersection
            union += scored.union
    if faults:
        raise ScoringError(f"{result.method} on {result.dataset}: {_few(faults, '; ')}")
    result.curves /= len(result.images)
    result.means = {
        measure: float(np.nanmean(values)) if not np.isnan(values).all() else math.nan
        for measure in MEASURES
        if (values := np.array([row[measure] for row in result.images.values()])).size
    }
    f, _, _, e = result.curves
    result.means |= {"e_mean": e.mean(), "e_max": e.max(), "f_mean": f.mean(), "f_max": f.max()}
    result.means["iou"] = intersection / union if union else 1.0


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ScoringError(f"{folder} is no folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.stem in found:
            raise ScoringError(f"{folder} holds both {found[path.stem].name} and {path.name}; which one counts?")
        found[path.stem] = path
    if not found:
        raise ScoringError(f"{folder} holds no image ({', '.join(SUFFIXES)})")
    return found


def _few(names: Sequence[str], separator: str = ", ") -> str:
    shown = separator.join(names[:5])
    return f"{len(names)} ({shown}{separator + '…' if len(names) > 5 else ''})"


def _progress_bar(total: int) -> Iterator[int]:
    from rich.progress import track

    yield from track(range(total), description="Scoring", transient=True)


def rows(results: Iterable[Result]) -> list[dict[str, str | float]]:
    """Return what the table shows: method, data set, number of images scored of those expected, and the means."""
    return [
        {"method": one.method, "dataset": one.dataset, "images": f"{len(one.images)}/{one.expected}"} | one.means
        for one in results
    ]


def write_tables(results: Sequence[Result], conventions: Conventions, out: Path, formats: Iterable[str]) -> list[Path]:
    """Write the table as `scores.<format>`, and each result's per-image scores as CSV."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    table = rows(results)
    head = ["method", "dataset", "images", *MEASURES]
    for kind in formats:
        path = out / f"scores.{kind}"
        if kind == "csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, head)
                writer.writeheader()
                writer.writerows(table)
        elif kind == "json":
            content = {
                "conventions": asdict(conventions),
                "results": [
                    {**row, "missing": one.missing, "extra": one.extra, "resized": one.resized, "empty": one.empty}
                    for row, one in zip(table, results, strict=True)
                ],
            }
            path.write_text(json.dumps(content, indent=2) + "\n")
        elif kind == "md":
            path.write_text(_markdown(table, conventions))
        else:
            path.write_text(_latex(table, conventions))
        written.append(path)
    for one in results:
        path = out / f"images_{one.method}_{one.dataset}.csv"
        with path.open("w", newline="") as file:
            rows_writer = csv.writer(file)
            rows_writer.writerow(["name", *MEASURES])
            rows_writer.writerows([name, *values.values()] for name, values in one.images.items())
        written.append(path)
    return written


def _cells(row: dict[str, str | float]) -> list[str]:
    return [value if isinstance(value, str) else f"{value:.4f}" for value in row.values()]


def _markdown(table: list[dict[str, str | float]], conventions: Conventions) -> str:
    head = ["method", "data set", "images", *MEASURES.values()]
    lines = [" | ".join(head), " | ".join(["---"] * 3 + ["---:"] * len(MEASURES))]
    lines += [" | ".join(_cells(row)) for row in table]
    return "\n".join(f"| {line} |" for line in lines) + f"\n\n{conventions.describe()}\n"


def _latex(table: list[dict[str, str | float]], conventions: Conventions) -> str:
    def escape(cell: str) -> str:
        return "".join(f"\\{mark}" if mark in "_%&#$" else mark for mark in cell)

    head = ["method", "data set", "images", *MEASURES.values()]
    body = [[escape(cell) for cell in _cells(row)] for row in table]
    return "\n".join(
        [
            f"\\begin{{tabular}}{{lll{'r' * len(MEASURES)}}}",
            "\\toprule",
            " & ".join(head) + " \\\\",
            "\\midrule",
            *(" & ".join(cells) + " \\\\" for cells in body),
            "\\bottomrule",
            "\\end{tabular}",
            f"% {conventions.describe()}",
            "",
        ]
    )


def draw_curves(results: Sequence[Result], out: Path, kind: str = "png") -> list[Path]:
    """Draw, for each data set, precision over recall and F-measure over the threshold, one line per method."""
    from matplotlib.figure import Figure

    out.mkdir(parents=True, exist_ok=True)
    written = []
    for dataset in dict.fromkeys(one.dataset for one in results):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for one in (one for one in results if one.dataset == dataset):
            f, precision, recall, _ = one.curves
            left.plot(recall, precision, label=one.method)
            right.plot(np.arange(256), f, label=f"{one.method} (max {f.max():.3f})")
        left.set(xlabel="recall", ylabel="precision", title=f"{dataset}: precision and recall")
        right.set(xlabel="threshold (of 255)", ylabel="F-measure", title=f"{dataset}: F-measure")
        for axis in (left, right):
            axis.set_ylim(0, 1.02)
            axis.grid(alpha=0.3)
            axis.legend(loc="lower center")
        left.set_xlim(0, 1.02)
        path = out / f"curves_{dataset}.{kind}"
        figure.savefig(path, dpi=120)
        written.append(path)
    return written


def draw_sheet(result: Result, pred: Path, gt: Path, out: Path, conventions: Conventions, count: int = 6) -> Path:
    """Draw the maps with the lowest and the highest weighted F-measure, the outline of the mask in red."""
    from matplotlib.figure import Figure

    ranked = sorted(
        (values["weighted_f"], name) for name, values in result.images.items() if not math.isnan(values["weighted_f"])
    )
    count = min(count, max(1, len(ranked) // 2))
    maps, masks = _by_stem(pred), _by_stem(gt)
    figure = Figure(figsize=(2.2 * count, 5), layout="constrained")
    figure.suptitle(f"{result.method} on {result.dataset}: lowest (above) and highest weighted F-measure")
    axes = figure.subplots(2, count, squeeze=False)
    for line, chosen in zip(axes, (ranked[:count], ranked[::-1][:count]), strict=True):
        for axis, (value, name) in zip(line, chosen, strict=False):
            foreground = read_foreground(masks[name], conventions.mask_threshold)
            height, width = foreground.shape
            axis.imshow(
                read_grey(maps[name]), cmap="gray", vmin=0, vmax=255, extent=(-0.5, width - 0.5, height - 0.5, -0.5)
            )
            if foreground.any() and not foreground.all():
                axis.contour(foreground, levels=[0.5], colors="red", linewidths=1)
            axis.set_title(f"{name}: {value:.3f}", fontsize=9)
        for axis in line:
            axis.set_axis_off()
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"sheet_{result.method}_{result.dataset}.png"
    figure.savefig(path, dpi=120)
    return path


def print_table(results: Sequence[Result], conventions: Conventions) -> None:
    """Print the table, the conventions, and what was missing, left over or resized."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(caption=conventions.describe(), caption_justify="left")
    for title in ("method", "data set", "images"):
        table.add_column(title)
    for title in MEASURES.values():
        table.add_column(title, justify="right")
    for row in rows(results):
        table.add_row(*_cells(row))
    console.print(table)
    for one in results:
        where = f"{one.method} on {one.dataset}"
        if one.missing:
            console.print(f"[bold red]{where}: no map for {_few(one.missing)} of {one.expected} masks; not averaged")
        if one.extra:
            console.print(f"[yellow]{where}: maps without a mask, not scored: {_few(one.extra)}")
        if one.resized:
            console.print(f"{where}: {one.resized} maps were resized to their masks")
        if one.empty:
            console.print(f"{where}: {one.empty} masks are empty")


def _named_folders(values: Sequence[str]) -> dict[str, Path]:
    """Read `name=folder` or `folder`, whose name is then that of the folder."""
    folders: dict[str, Path] = {}
    for value in values:
        name, equals, folder = value.partition("=")
        path = Path(folder if equals else value)
        name = name if equals else path.resolve().name
        if name in folders:
            raise ScoringError(f"two folders are called {name!r}; name them: {name}1={folders[name]} {name}2={path}")
        folders[name] = path
    return folders


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spatialseg score",
        description="Score foreground maps on disk against masks on disk; a map belongs to the mask of the same stem.",
    )
    parser.add_argument(
        "--pred",
        nargs="+",
        action="extend",
        required=True,
        metavar="[NAME=]DIR",
        help="folder of maps of a method; several may be given. With several data sets, DIR/<data set> holds the maps",
    )
    parser.add_argument(
        "--gt", nargs="+", action="extend", required=True, metavar="[NAME=]DIR", help="folder of masks of a data set"
    )
    parser.add_argument("--preset", choices=PRESETS, default="default", help="whose conventions to follow")
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="stretch every map to [0, 1] first, whatever the preset says",
    )
    parser.add_argument("--beta2", type=float, help="β² of the weighted F-measure, whatever the preset says")
    parser.add_argument("--empty-target", choices=("skip", "zero", "strict"), help="weighted F of an empty mask")
    parser.add_argument("--missing", choices=("error", "skip"), default="error", help="what a mask without a map means")
    parser.add_argument("--strict", action="store_true", help="refuse maps of another size than their mask")
    parser.add_argument("--out", type=Path, default=Path("scores"), help="folder to write to (default: scores)")
    parser.add_argument("--formats", nargs="*", choices=FORMATS, default=list(FORMATS), help="formats of the table")
    parser.add_argument("--figures", choices=("png", "pdf", "none"), default="png", help="format of the curves")
    parser.add_argument("--sheet", type=int, default=6, metavar="N", help="show the N worst and best maps; 0 for none")
    parser.add_argument("--workers", type=int, default=0, help="threads (default: one per CPU)")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run `spatialseg score`.

    Args:
        args: The command's arguments; those of the process by default.

    Raises:
        SystemExit: With status 2 when the arguments or the files cannot be used.
    """
    options = _parser().parse_args(args)
    chosen = {name: getattr(options, name) for name in ("normalize", "beta2", "empty_target")}
    conventions = replace(
        PRESETS[options.preset], **{name: value for name, value in chosen.items() if value is not None}
    )
    try:
        pred, gt = _named_folders(options.pred), _named_folders(options.gt)
        results = score(
            pred,
            gt,
            conventions,
            missing=options.missing,
            strict=options.strict,
            workers=options.workers,
            progress=sys.stderr.isatty(),
        )
        written = write_tables(results, conventions, options.out, options.formats)
        if options.figures != "none":
            written += draw_curves(results, options.out, options.figures)
        for one in results if options.sheet > 0 else ():
            maps = pred[one.method] / one.dataset if len(gt) > 1 else pred[one.method]
            written.append(draw_sheet(one, maps, gt[one.dataset], options.out, conventions, options.sheet))
    except ScoringError as error:
        print(f"spatialseg score: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print_table(results, conventions)
    print(f"Written to {options.out}: {', '.join(path.name for path in written)}")


if __name__ == "__main__":
    main()
