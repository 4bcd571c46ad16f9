"""Made-up scores."""

import numpy as np

from spatialseg.scores import Measure, Scores

MEASURES = (
    Measure("weighted_f", "Fw"),
    Measure("f_max", "F max", average="mean curve", of=("f",)),
    Measure("mae", "MAE", "lower"),
    Measure("iou", "IoU", average="data set", of=("intersection", "union")),
)


def make_scores(seed: int, count: int = 40, shift: float = 0.0, classes: tuple[str, ...] = ()) -> Scores:
    """Make the scores of one run; `shift` makes them better. The images are the same whatever the seed."""
    facts, values = np.random.default_rng(99), np.random.default_rng(seed)
    columns = {"height": facts.integers(200, 400, count) * 1.0, "width": facts.integers(200, 400, count) * 1.0}
    columns["foreground"] = facts.random(count) ** 2
    parts = [f"/{name}" for name in classes] or [""]
    for name, sign in (("weighted_f", 1), ("mae", -1), ("iou", 1), ("f_max", 1)):
        for part in {"", *parts}:
            columns[name + part] = np.clip(values.normal(0.6 + sign * shift, 0.15, count), 0, 1)
    for part in parts:
        columns[f"union{part}"] = facts.integers(10, 9000, count) * 1.0
        columns[f"intersection{part}"] = columns[f"union{part}"] * columns[f"iou{part}"]
    curves = {name: values.random((count, 256)) * (0.5 + shift) for name in ("f", "precision", "recall", "e")}
    measures = MEASURES if not classes else tuple(each for each in MEASURES if each.average != "mean curve")
    names = [f"{index:04d}" for index in range(count)]
    return Scores(names, columns, curves, measures, {"beta2": 1.0, "threshold": 0.5})
