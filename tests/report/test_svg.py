import math
import xml.etree.ElementTree as ElementTree

import pytest

from spatialseg.report.svg import TOP, WIDTH, Plot, span


def elements(plot: Plot, kind: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(plot.svg()).iter() if each.tag == kind]


def test_corners_of_the_ranges_are_corners_of_the_plot():
    plot = Plot("a < b", (0, 10), (-1, 1), x_label="x", y_label="y")
    plot.dots([0, 10], [-1, 1], "c0", ["first & last"])
    low, high = elements(plot, "circle")
    assert float(high.get("cx")) == WIDTH - 14 and float(high.get("cy")) == TOP
    assert float(low.get("cx")) == plot.left and float(low.get("cy")) == plot.height - 38
    assert low[0].text == "first & last" and len(high) == 0
    assert [each.text for each in elements(plot, "text")] == [
        *("a < b", "0", "2", "4", "6", "8", "10", "-1", "-0.5", "0", "0.5", "1", "x", "y")
    ]


def test_what_is_missing_is_not_drawn_and_breaks_a_line():
    plot = Plot("", (0, 4))
    plot.dots([1, math.nan, 2], [0.5, 0.5, math.nan], "c0")
    plot.line([0, 1, 2, 3, 4], [0, 1, math.nan, 1, 0], "c0")
    assert len(elements(plot, "circle")) == 1
    path = next(each for each in elements(plot, "path") if each.get("class") == "line c0").get("d")
    assert path.count("M") == 2 and path.count("L") == 2


def test_names_stand_from_top_to_bottom():
    plot = Plot("", (0, 1), names=["first", "second"])
    plot.dots([0.5, 0.5], [0, 1], "c0")
    first, second = (float(each.get("cy")) for each in elements(plot, "circle"))
    assert first < second
    labels = {each.text: float(each.get("y")) for each in elements(plot, "text")}
    assert labels["first"] == pytest.approx(first + 4) and labels["second"] == pytest.approx(second + 4)


def test_epochs_are_whole_numbers():
    ticks = [
        [each.text for each in elements(Plot("", (0.9, 3.1), whole=whole), "text")][1:6] for whole in (False, True)
    ]
    assert ticks[0] == ["1", "1.5", "2", "2.5", "3"] and ticks[1][:3] == ["1", "2", "3"] and "1.5" not in ticks[1]


def test_a_logarithmic_axis_has_equal_steps_and_round_numbers():
    plot = Plot("", (1, 100), log=True)
    plot.dots([1, 10, 100], [0, 0, 0], "c0")
    one, ten, hundred = (float(each.get("cx")) for each in elements(plot, "circle"))
    assert ten - one == pytest.approx(hundred - ten)
    assert {"1", "2", "5", "10", "20", "50", "100"} <= {each.text for each in elements(plot, "text")}
    wide = {each.text for each in elements(Plot("", (1e-4, 100), log=True), "text")}
    assert {"0.0001", "1", "100"} <= wide and not {"2", "5"} & wide  # which would stand on each other


@pytest.mark.parametrize("values", [[], [math.nan], [3.0], [0.0, 0.0], [1e-9, 2e-9], [-5, 1000]])
def test_any_values_have_a_range(values):
    low, high = span(values)
    assert low < high
    assert all(low < value < high for value in values if value == value)
    assert Plot("", (low, high), (low, high)).svg()
