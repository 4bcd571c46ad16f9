"""Explain one score: `python -m spatialseg explain IMAGE MASK --pred MAP`, or `--run RUN` to predict the image."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spatialseg.data.files import read_image, read_map, read_mask
from spatialseg.extras import how_to_install
from spatialseg.hints import command_parser
from spatialseg.report.anatomy import LOSSES, dissect, draw_anatomy
from spatialseg.report.sheet import Photograph
from spatialseg.run.folder import RunError


def _read(options: argparse.Namespace) -> tuple[Photograph, NDArray[Any], float]:
    """Return image with mask, the prediction and the cut."""
    image, mask = read_image(options.image), read_mask(options.mask, 1)
    if image.shape[:2] != mask.shape:
        sizes = [f"{shape[1]}×{shape[0]}" for shape in (image.shape, mask.shape)]
        raise ValueError(
            f"{options.image} has {sizes[0]} pixels, its mask {options.mask} {sizes[1]}; give its own mask"
        )
    if options.run:
        from spatialseg.inference.model import load  # takes seconds, and a map on disk needs none of it

        model = load(options.run, options.runs, "cpu")
        if model.classes > 1:
            raise RunError(
                f"{options.run} is of {model.classes} classes; only foreground maps are explained, so give one "
                "with --pred"
            )
        assert model.origin
        print(f"network: {model.origin.checkpoint}")
        prediction, cut = model.probabilities(image), model.cut
    else:
        prediction, cut = read_map(options.pred), 0.5
        if prediction.shape != mask.shape:
            size = (mask.shape[1], mask.shape[0])
            prediction = np.array(Image.fromarray(prediction).resize(size, Image.Resampling.BILINEAR))
    return Photograph(options.image.stem, image, mask), prediction, cut if options.cut is None else options.cut


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "explain",
        "Draw how the weighted F-measure of one map comes about, and where losses push that map.",
        "photo.jpg mask.png --pred map.png",
    )
    parser.add_argument("image", type=Path, help="the photograph")
    parser.add_argument("mask", type=Path, help="its ground truth: foreground above 127, or 1 of 0 and 1")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--pred", type=Path, metavar="MAP", help="the map; of another size, it is resized to the mask")
    which.add_argument(
        "--run", help="run folder or EXPERIMENT/DATA, the newest of its seeds: its best checkpoint predicts"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--losses", nargs="*", default=LOSSES, metavar="NAME", help=f"default: {' '.join(LOSSES)}")
    parser.add_argument(
        "--cut", type=float, help="threshold of the map as a mask; by default the run's own, of a map 0.5"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="picture, PNG or PDF; by default IMAGE_explained.png")
    return parser


def main(args: Sequence[str]) -> None:
    """Run `spatialseg explain`.

    Raises:
        SystemExit: With status 2 when the arguments or the files cannot be used.
    """
    parser = _parser()
    options = parser.parse_args(args)
    out = options.out or Path(f"{options.image.stem}_explained.png")
    try:
        photograph, prediction, cut = _read(options)
        anatomy = dissect(prediction, photograph.mask, options.losses, cut=cut)
        out.parent.mkdir(parents=True, exist_ok=True)
        draw_anatomy(photograph, anatomy, width=300).save(out)
    except (ValueError, TypeError, ImportError, OSError) as error:
        advice = how_to_install(error) if isinstance(error, ModuleNotFoundError) else None
        parser.exit(2, f"spatialseg explain: {advice or error}\n")
    for name, value in anatomy.describe().items():
        print(f"{name:24} {value}")
    print(f"Written: {out}")
