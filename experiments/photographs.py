"""Show photographs chosen by a rule, not by taste: the worst, and the 10th, 50th and 90th percentile of a gain.

    python experiments/photographs.py saliency_bce/shapes saliency_wfb/shapes --out experiments/results/by_rule.png

The gain is that of the second run over the first, image by image. Both keep their maps (`--maps true`). The picture
lies with the second run unless told otherwise: photographs that may not be passed on do not belong into the repository.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spatialseg.compare import make_source
from spatialseg.data.files import read_map
from spatialseg.report.sheet import Panel, draw_panels, map_pixels
from spatialseg.run.folder import RunFolder, find_runs


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("baseline")
    parser.add_argument("recipe")
    parser.add_argument("--measure", default="weighted_f")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run folders (default: runs)")
    parser.add_argument("--out", type=Path, help="the picture (default: by_rule.png in the second run's folder)")
    options = parser.parse_args()
    runs = [find_runs(name, options.runs)[0] for name in (options.baseline, options.recipe)]
    picture = draw(*runs, options.measure)
    out = options.out or runs[1].path / "by_rule.png"
    picture.save(out)
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


def draw(baseline: RunFolder, recipe: RunFolder, measure: str) -> Image.Image:
    """Return a row for each image: the photograph, its ground truth and both maps."""
    scores = [run.scores() for run in (baseline, recipe)]
    label = next(each.label for each in scores[0].measures if each.name == measure)
    values = [each.columns[measure] for each in scores]
    samples = make_source(recipe.read_config()["data"]).dataset("test")
    places = {samples[place]["name"]: place for place in range(len(samples))}  # type: ignore[arg-type]
    rows = []
    for what, row in by_rule(values[1] - values[0]).items():
        name = scores[0].names[row]
        sample = samples[places[name]]
        maps = [
            Panel(f"{run.experiment}, {label} {each[row]:.3f}", map_pixels(read_map(run.maps / f"{name}.png") / 255))
            for run, each in zip((baseline, recipe), values, strict=True)
        ]
        image = np.asarray(sample["image"]).transpose(1, 2, 0)
        rows.append([Panel(what, image), Panel("ground truth", map_pixels(np.asarray(sample["mask"]))), *maps])
    return draw_panels(rows)


if __name__ == "__main__":
    main()
