"""Show photographs chosen by a rule, not by taste: the worst, and the 10th, 50th and 90th percentile of a gain.

    python experiments/photographs.py saliency_bce/shapes saliency_wfb/shapes --out experiments/results/by_rule.png

The gain is that of the second run over the first, image by image, in the first measure and of the first seeds. Both
keep their maps (`--maps true`). The picture lies with the second run unless told otherwise: photographs that may not be
passed on do not belong into the repository.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spatialseg.report.entries import Entry, open_entries
from spatialseg.report.examples import maps_of, photographs
from spatialseg.report.sheet import Panel, draw_panels, map_pixels


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("baseline")
    parser.add_argument("recipe")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run folders (default: runs)")
    parser.add_argument("--out", type=Path, help="the picture (default: by_rule.png in the second run's folder)")
    options = parser.parse_args()
    entries = open_entries([options.baseline, options.recipe], options.runs)
    out = options.out or Path(entries[1].place, "by_rule.png")
    draw(entries).save(out)
    print("Written to", out)


def by_rule(gains: NDArray[np.float64]) -> dict[str, int]:
    """Choose images by a rule rather than by taste: at the 10th, 50th and 90th percentile of the gain, and the worst.

    Args:
        gains: Of each image, what one arm gains over another, (N,); those that are NaN are left out.

    Returns:
        What each is called, and its place.
    """
    order = [int(place) for place in np.argsort(gains) if not np.isnan(gains[place])]
    return {
        "worst": order[0],
        **{f"{share}th percentile": order[round(share / 100 * (len(order) - 1))] for share in (10, 50, 90)},
    }


def draw(entries: Sequence[Entry]) -> Image.Image:
    """Return a row for each image: the photograph, its ground truth and both maps."""
    first, second = (entry.arm.first_seed.columns[entry.arm.measures[0].name] for entry in entries)
    chosen = by_rule(second - first)
    names = [entries[0].arm.first_seed.names[place] for place in chosen.values()]
    shown, classes = photographs(entries, names)
    rows = []
    for what, one in zip(chosen, shown, strict=True):
        maps = [("ground truth", one.mask), *maps_of(entries, one, classes)]
        rows.append([Panel(what, one.image), *(Panel(title, map_pixels(each, classes)) for title, each in maps)])
    return draw_panels(rows)


if __name__ == "__main__":
    main()
