import math

import pytest

from spatialseg.losses.schedules import build_schedule


def values(epochs: int = 5, **description) -> list[float]:
    schedule = build_schedule(description)
    return [schedule(epoch, epochs) for epoch in range(epochs)]


def test_linear():
    assert values(kind="linear") == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert values(kind="linear", start=1.0, end=0.2, first=1, last=3) == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])
    assert values(1, kind="linear") == [1.0]
    assert values(kind="linear", first=2, last=2) == [0.0, 0.0, 1.0, 1.0, 1.0]


def test_fractions_of_the_training():
    by_fraction = {"kind": "linear", "first": 0.25, "last": 0.75}
    assert values(9, **by_fraction) == values(9, kind="linear", first=2, last=6)
    assert values(17, **by_fraction) == values(17, kind="linear", first=4, last=12)
    assert values(12, kind="linear", last=0.5)[5:7] == pytest.approx([5 / 5.5, 1.0])
    assert values(5, kind="cosine", first=1, last=0.5) == values(5, kind="cosine", first=1, last=2)


def test_cosine():
    assert values(kind="cosine") == pytest.approx([(1 - math.cos(math.pi * epoch / 4)) / 2 for epoch in range(5)])
    assert values(kind="cosine", start=0.5, end=1.5)[2] == pytest.approx(1.0)


def test_step():
    assert values(kind="step", milestones=[1, 3], gamma=0.5, start=2.0) == [2.0, 1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, "must be one of linear, cosine, step, got None"),
        ({"kind": "linear", "stop": 3}, "'stop'.*start"),
        ({"kind": "step"}, "milestones"),
        ({"kind": "linear", "first": 3, "last": 1}, "first <= last"),
        ({"kind": "linear", "first": 0.5, "last": 0.25}, "first <= last"),
        ({"kind": "linear", "last": 1.5}, "fractions 0.0 to 1.0, got 1.5"),
        ({"kind": "cosine", "first": -1}, "epochs >= 0 or .*, got -1"),
        ({"kind": "linear", "end": -0.1}, "finite end >= 0, got -0.1"),
        ({"kind": "cosine", "start": math.nan}, "finite start >= 0, got nan"),
        ({"kind": "step", "milestones": [1], "gamma": -1.0}, "finite gamma >= 0, got -1.0"),
        ({"kind": "step", "milestones": [1], "start": math.inf}, "finite start >= 0, got inf"),
    ],
)
def test_wrong_schedules_are_refused(description, message):
    with pytest.raises(ValueError, match=message):
        build_schedule(description)


def test_training_without_end_needs_a_last_epoch():
    with pytest.raises(ValueError, match="max_epochs=-1"):
        build_schedule({"kind": "linear"})(0, -1)
    assert build_schedule({"kind": "linear", "last": 4})(2, -1) == 0.5
