import numpy as np
import pytest
from matplotlib.figure import Figure

from spatialseg.report import pictures
from spatialseg.report.sheet import Photograph


@pytest.fixture
def photograph() -> Photograph:
    rng = np.random.default_rng(0)
    mask = np.zeros((30, 40), np.uint8)
    mask[8:20, 10:25] = 1
    mask[0, 0] = 255
    return Photograph("sparrow", rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), mask)


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def test_a_sheet_outlines_the_mask_and_bears_rows_of_unequal_length(photograph):
    mask = photograph.mask == 1
    small, empty = mask[::2, ::2].astype(float), np.zeros_like(mask)
    figure = pictures.draw_sheet("worst and best", [[("a", small, mask), ("b", small, empty)], [("c", small, mask)]])
    assert titles(figure) == ["a", "b", "c"]
    assert [len(axis.collections) for axis in figure.axes] == [1, 0, 1, 0]
    assert figure.axes[0].get_xlim() == (-0.5, 39.5)


def test_curves_of_each_method():
    curve = np.linspace(0, 1, 256)
    figure = pictures.draw_curves("ecssd", {"a": {"f": curve, "precision": curve, "recall": curve[::-1]}})
    left, right = figure.axes
    assert left.lines[0].get_xdata()[0] == 1 and right.get_legend().texts[0].get_text() == "a (max 1.000)"


def test_measures_go_around_and_scores_spread():
    values = np.array([np.nan, *np.linspace(0, 1, 101)])
    figures = {"a": {"Fw": 0.9, "S": 0.8, "1 − MAE": 0.7}, "b": {"Fw": 0.6, "S": 0.5, "1 − MAE": 0.4}}
    left, right = pictures.draw_measures("ecssd", figures, "Fw", {"a": values, "b": values / 2}).axes
    assert left.lines[0].get_ydata() == pytest.approx([0.9, 0.8, 0.7, 0.9])
    assert [label.get_text() for label in left.get_xticklabels()] == ["Fw", "S", "1 − MAE"]
    below, above = (patch.get_path().get_extents() for patch in right.patches)
    assert (above.x0, above.x1) == pytest.approx((0.25, 0.75)) and (below.x0, below.x1) == pytest.approx((0.125, 0.375))
    assert [label.get_text() for label in right.get_yticklabels()] == ["b", "a"]
