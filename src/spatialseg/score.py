"""Score maps on disk against masks on disk, as papers do: `python -m spatialseg score --pred DIR --gt DIR`."""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from spatialseg.conventions import DEFAULT, OF_EMPTY, PRESETS, Conventions
from spatialseg.data.files import check_folder, read_levels, read_mask, upper_8_bits
from spatialseg.data.pairs import Maps, Place, ScoringError, find_pairs, named_folders, read_pairs
from spatialseg.data.source import DataError
from spatialseg.extras import how_to_install
from spatialseg.functional.dispatch import one_thread
from spatialseg.hints import command_parser
from spatialseg.metrics.images import ImageCounts, count_image, scores_of
from spatialseg.metrics.registry import available_measures
from spatialseg.report.scored import Result, draw_results, intervals_of, notes_of, table_of
from spatialseg.report.statistics import NO_SEED, Arm
from spatialseg.report.table import Column, Table
from spatialseg.scores import stem_of

FORMATS = ("csv", "json", "md", "tex", "html")
Counted = tuple[ImageCounts, float, bool] | str
"""Of a pair of files what its image counts, the map's highest grey level, and whether it was resized; or its fault."""


def score(
    pred: Mapping[str, Maps],
    gt: Mapping[str, Place],
    conventions: Conventions = DEFAULT,
    *,
    missing: Literal["error", "skip"] = "error",
    strict: bool = False,
    workers: int = 0,
    progress: bool = False,
) -> list[Result]:
    """Score the maps of several methods on several data sets.

    Args:
        pred: Where the maps of each method are: a folder, or `Files` in it. With several data sets, its subfolders are
            named after them; or a mapping says where those of each are.
        gt: Where the masks of each data set are. A map belongs to the mask of the same name.
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
    results = []
    if workers < 0:
        raise ScoringError(f"workers must be at least 0 (one thread per CPU), got {workers}")
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool, one_thread():
        for pairs in find_pairs(pred, gt, missing == "skip"):
            where = f"{pairs.method} on {pairs.dataset}"
            count = partial(_count, conventions=conventions, strict=strict)
            counted: Iterable[Counted] = pool.map(count, pairs.files, pairs.files.values())
            shown: dict[str, Any] = {"transient": True, "disable": not progress, "console": Console(stderr=True)}
            found = list(track(counted, f"Scoring {where}", len(pairs.files), **shown))
            if faults := [each for each in found if isinstance(each, str)]:
                raise ScoringError(f"{where}: {len(faults)} files: {'; '.join(faults[:5])}")
            images, highest, resized = zip(*(each for each in found if not isinstance(each, str)), strict=True)
            if max(highest) == 1:
                raise ScoringError(
                    f"{where}: no grey level in {len(images)} maps is above 1 (of 255); "
                    "they seem to be saved as 0 and 1: multiply them by 255"
                )
            if 0 < max(highest) < 1:
                raise ScoringError(
                    f"{where}: no grey level in {len(images)} maps is above 255 (of 65535); "
                    "they seem to be 8-bit maps saved with 16 bits: save them with 8, or multiply them by 257"
                )
            results.append(Result(**vars(pairs), scores=scores_of(images, conventions), resized=sum(resized)))
    return results


def _count(name: str, files: tuple[Path, Path], conventions: Conventions, strict: bool) -> Counted:
    map_path, mask_path = files
    try:
        levels, mask = read_levels(map_path), read_mask(mask_path, 1, conventions.mask_threshold)
    except DataError as error:
        return str(error)
    prediction = upper_8_bits(levels)
    # As one of 255; probabilities are what they are, however small.
    highest = {"u": levels.max(), "i": levels.max() / 257, "f": 255}[levels.dtype.kind]
    resized = prediction.shape != mask.shape
    if resized:
        height, width = mask.shape
        if strict:
            found = f"{prediction.shape[1]}×{prediction.shape[0]}"
            return f"{map_path} has {found} pixels, its mask {width}×{height}"
        prediction = np.array(Image.fromarray(prediction).resize((width, height), Image.Resampling.BILINEAR))
    image = count_image(name, torch.from_numpy(prediction), torch.from_numpy(mask.view(np.bool_)), conventions)
    return image, float(highest), resized


def differences_to(baseline: str, results: Sequence[Result]) -> dict[str, Table]:
    """Return by how much the other methods differ from one, each on the images that both have, by data set.

    Raises:
        ScoringError: There is no such method, no other, or one that shares no image with it.
    """
    from spatialseg.report.comparison import tabulate_differences

    methods = list(dict.fromkeys(one.method for one in results))
    if baseline not in methods or len(methods) < 2:
        raise ScoringError(f"--against names one of two methods or more, got {baseline!r} of {', '.join(methods)}")
    tables = {}
    for dataset in dict.fromkeys(one.dataset for one in results):
        scores = {one.method: one.scores for one in results if one.dataset == dataset}
        alike: dict[tuple[str, ...], list[str]] = {}  # the others, by the images that they share with the baseline
        for method in (each for each in methods if each != baseline):
            common = set(scores[baseline].names) & set(scores[method].names)
            alike.setdefault(tuple(sorted(common)), []).append(method)
        if alone := alike.get(()):
            raise ScoringError(f"{baseline} and {alone[0]} have no image of {dataset} in common")
        rows: list[dict[str, Any]] = []
        for shared, group in alike.items():
            arms = [Arm(method, {NO_SEED: scores[method].take(shared)}) for method in (baseline, *group)]
            table = tabulate_differences(arms)
            rows += [{**row, "images": len(shared)} for row in table.rows]
        columns = [*table.columns[:2], Column("images", "images"), *table.columns[2:]]
        tables[dataset] = replace(table, columns=columns, rows=rows, title=f"{table.title} on {dataset}")
    return tables


def _check_names(methods: Iterable[str], datasets: Iterable[str]) -> None:
    """Make sure that the scores of each method on each data set get files of their own.

    Raises:
        ScoringError: They would not.
    """
    for name in chain(methods, datasets):
        if Path(name).name != name:
            raise ScoringError(
                f"methods and data sets give files their names, and none can be called {name!r}; rename it"
            )
    taken: dict[str, str] = {}
    for method, dataset in product(methods, datasets):
        stem, pair = stem_of(method, dataset), f"{method} on {dataset}"
        if (other := taken.setdefault(stem, pair)) != pair:
            raise ScoringError(f"{other} and {pair} would both be written to {stem}.csv; rename a method or data set")


def main(args: Sequence[str]) -> None:
    """Run `spatialseg score`.

    Raises:
        SystemExit: With status 2 when the arguments or the files cannot be used.
    """
    parser = command_parser(
        "score",
        "Score foreground maps on disk against masks on disk; a map belongs to the mask of the same stem.",
        "--pred mine=maps/ theirs=maps2/ --gt masks/ --preset pysodmetrics",
    )
    add = parser.add_argument
    folders: dict[str, Any] = {"nargs": "+", "action": "extend", "default": [], "metavar": "[NAME=]DIR"}
    add("--pred", help="folder of a method's maps; with several data sets, DIR/<data set> holds the maps", **folders)
    add("--gt", help="folder of a data set's masks", **folders)
    for kind, what in (("pred", "maps"), ("gt", "masks")):
        add(f"--{kind}-prefix", default="", metavar="TEXT", help=f"how the names of {what} begin")
        add(f"--{kind}-suffix", default="", metavar="TEXT", help=f"how the names of {what} end, such as _sal")
    add("--config", type=Path, metavar="YAML", help="says in place of these where `datasets` and `methods` are")
    add("--preset", choices=PRESETS, default="default", help="whose conventions to follow, but for the next three")
    add("--normalize", action=argparse.BooleanOptionalAction, help="stretch every map to [0, 1] first")
    add("--beta2", type=float, help="β² of the weighted F-measure")
    add("--empty-target", choices=OF_EMPTY, help="weighted F of an empty mask")
    further = sorted(available_measures(further=True).keys() - available_measures().keys())
    more = "measures to take beside the others; correction_effort takes longer than all of those"
    add("--further", nargs="+", choices=further, default=[], help=more)
    add("--missing", choices=("error", "skip"), default="error", help="what a mask without a map means")
    add("--strict", action="store_true", help="refuse maps of another size than their mask")
    add("--against", metavar="NAME", help="method to hold all others against, image by image")
    add("--intervals", action="store_true", help="give every figure its 95 %% interval")
    add("--out", type=Path, default=Path("scores"), help="folder to write to (default: scores)")
    add("--formats", nargs="*", choices=FORMATS, default=list(FORMATS), help="formats of the table")
    add("--figures", choices=("png", "pdf", "none"), default="png", help="format of the curves")
    add("--sheet", type=int, default=6, metavar="N", help="show the N worst and best maps; 0 for none")
    add("--workers", type=int, default=0, help="threads (default: one per CPU)")
    options = parser.parse_args(args)
    given = {name: getattr(options, name) for name in ("normalize", "beta2", "empty_target")}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        conventions = replace(PRESETS[options.preset], further=tuple(options.further), **given)
    except ValueError as error:
        parser.exit(2, f"spatialseg score: {error}\n")
    how = {name: getattr(options, name) for name in ("missing", "strict", "workers")}
    try:
        if {bool(options.pred), bool(options.gt)} != {not options.config}:
            raise ScoringError("say where maps and masks are, with --pred and --gt or with --config")
        pred: Mapping[str, Maps] = named_folders(options.pred, options.pred_prefix, options.pred_suffix)
        gt: Mapping[str, Place] = named_folders(options.gt, options.gt_prefix, options.gt_suffix)
        if options.config:
            pred, gt = read_pairs(options.config)
        _check_names(pred, gt)
        check_folder(options.out)
        results = score(pred, gt, conventions, progress=sys.stderr.isatty(), **how)
        tables = {"scores": table_of(results, conventions)}
        if options.intervals:
            tables["intervals"] = intervals_of(results)
        if options.against:
            for dataset, table in differences_to(options.against, results).items():
                tables[f"differences_{dataset}"] = table
        written = [path for stem, table in tables.items() for path in table.write(options.out, stem, options.formats)]
        for one in results:
            written += one.scores.save(options.out, stem_of(one.method, one.dataset))
        notes = notes_of(results)
        if options.figures != "none" or options.sheet > 0:
            try:
                written += draw_results(results, options.out, options.figures, options.sheet)
            except ModuleNotFoundError as error:
                notes.append(f"no pictures: {how_to_install(error) or error}")
    except (ScoringError, OSError) as error:
        parser.exit(2, f"spatialseg score: {error}\n")
    for table in tables.values():
        table.print()
    print(*notes, sep="\n")
    print(f"Written to {options.out}: {', '.join(path.name for path in written)}")
