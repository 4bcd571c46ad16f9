"""Per-image scores: the figures follow from the rows, from the files, and equal the metric classes."""

import csv
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from spatialseg.conventions import DEFAULT
from spatialseg.metrics import (
    BoundaryFMeasure,
    BoundaryIoU,
    Conventions,
    MeanIoU,
    WeightedFMeasure,
    available_measures,
    saliency_metrics,
)
from spatialseg.metrics.images import count_image, scores_of
from spatialseg.scores import Measure, Scores

CLASSES = ("road", "tree", "car", "sky")


def foreground_maps(dtype: torch.dtype = torch.float32, count: int = 7):
    generator = torch.Generator().manual_seed(0)
    for place in range(count):
        target = torch.zeros(20 + place, 31, dtype=torch.long)
        if place != 3:  # one is empty
            target[4 : 10 + place, 6:20] = 1
        prediction = (0.6 * target + 0.4 * torch.rand(target.shape, generator=generator)).clamp(0, 1)
        target[0, :5] = 255
        yield f"image {place}", (prediction * 255).to(dtype) if dtype is torch.uint8 else prediction.to(dtype), target


def class_maps(count: int = 5):
    generator = torch.Generator().manual_seed(1)
    for place in range(count):
        target = torch.randint(0, 3, (5, 6), generator=generator).repeat_interleave(4, 0).repeat_interleave(5, 1)
        logits = torch.randn(4, *target.shape, generator=generator)
        logits[3] -= 9  # predicted nowhere, true nowhere
        logits.scatter_add_(0, target[None], torch.full(target[None].shape, 1.5))
        target[-1] = 255
        yield f"street {place}", logits.softmax(dim=0), target


def score(images, conventions=DEFAULT, class_names=("foreground",)) -> Scores:
    return scores_of([count_image(*each, conventions, len(class_names)) for each in images], conventions, class_names)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_figures_are_those_of_the_metric_classes(dtype):
    metrics = saliency_metrics(full=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one target is empty
        for _, prediction, target in foreground_maps(dtype):
            metrics.update(prediction[None], target[None])
    expected = {name: value.item() for name, value in metrics.compute().items()}
    figures = score(foreground_maps(dtype)).figures()
    assert list(figures) == [name for name in available_measures() if not name.endswith("_cut")]
    assert figures == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("maps", "names"), [(foreground_maps, ("foreground",)), (class_maps, CLASSES)])
@pytest.mark.filterwarnings("error")
def test_an_image_without_a_counting_pixel_is_left_out(maps, names, tmp_path):
    conventions = Conventions(empty_target="zero", cuts=(0.5,), further=tuple(available_measures(further=True)))
    known = list(maps())
    _, prediction, target = known[-1]
    unknown = [("ignored", prediction, torch.full_like(target, 255))]
    scores = score([*known, *unknown], conventions, names)
    assert scores.figures() == pytest.approx(score(known, conventions, names).figures(), abs=1e-12)
    row = scores.take(["ignored"])
    assert all(np.isnan(row.columns[name]).all() for name in row.columns if name not in ("height", "width"))
    assert all(np.isnan(curve).all() for curve in row.curves.values())
    row.save(tmp_path)
    figures = Scores.load(tmp_path).figures()
    assert len(figures) > 3 and np.isnan(list(figures.values())).all()


@pytest.mark.parametrize(("name", "kind"), [("boundary_iou", BoundaryIoU), ("boundary_f", BoundaryFMeasure)])
def test_masks_of_classes_are_those_of_the_metric_classes(name, kind):
    metric = kind(classes=4)
    for _, prediction, target in class_maps():
        metric.update(prediction[None], target[None])
    assert score(class_maps(), class_names=CLASSES).figures()[name] == pytest.approx(metric.compute().item(), abs=1e-12)


@pytest.mark.parametrize("empty_target", ["skip", "zero", "strict"])
def test_conventions_are_followed(empty_target):
    conventions = Conventions(normalize=True, beta2=0.3, empty_target=empty_target)
    metric = WeightedFMeasure(0.3, empty_target, normalize=True)
    with pytest.warns(UserWarning, match="without foreground"):
        for _, prediction, target in foreground_maps(torch.float32):
            metric.update(prediction[None], target[None])
    scores = score(foreground_maps(torch.float32), conventions)
    assert scores.figures()["weighted_f"] == pytest.approx(metric.compute().item(), abs=1e-12)
    assert np.isnan(scores.columns["weighted_f"]).sum() == (empty_target == "skip")


@pytest.mark.parametrize("empty_target", ["skip", "strict"])
def test_maps_are_cut(empty_target):
    conventions = Conventions(empty_target=empty_target, cuts=(0.2, 0.5, 0.9), cut=0.9)
    scores = score(foreground_maps(torch.float32), conventions)
    for place, cut in enumerate(conventions.cuts):
        metric = WeightedFMeasure(empty_target=empty_target)
        with pytest.warns(UserWarning, match="without foreground"):
            for _, prediction, target in foreground_maps(torch.float32):
                metric.update((prediction >= cut)[None].float(), target[None])
        assert scores.mean_curve("weighted_f")[place] == pytest.approx(metric.compute().item(), abs=1e-6)
    assert scores.figures()["weighted_f_cut"] == scores.mean_curve("weighted_f")[2]
    of_masks = score(foreground_maps(torch.float32), replace(conventions, threshold=0.9)).figures()
    assert of_masks["iou"] != scores.figures()["iou"]
    for name in ("iou", "boundary_f"):
        assert scores.figures()[f"{name}_cut"] == of_masks[name] == of_masks[f"{name}_cut"]
    with pytest.raises(ValueError, match=r"cuts must be in \(0, 1\], got \(0.5, 127\)"):
        Conventions(cuts=(0.5, 127))
    with pytest.raises(ValueError, match="one of the cuts"):
        Conventions(cuts=(0.2,), cut=0.5)


def test_figures_of_classes_are_those_of_the_metric_classes():
    weighted, iou = WeightedFMeasure(classes=4), MeanIoU(classes=4)
    each = WeightedFMeasure(classes=4, average="none"), MeanIoU(classes=4, average="none")
    for _, prediction, target in class_maps():
        for metric in (weighted, iou, *each):
            metric.update(prediction[None], target[None])
    scores = score(class_maps(), class_names=CLASSES)
    figures = scores.figures()
    assert figures["weighted_f"] == pytest.approx(weighted.compute().item(), abs=1e-7)
    assert figures["iou"] == pytest.approx(iou.compute().item(), abs=1e-12)
    assert scores.classes == list(CLASSES)
    for metric, name in zip(each, ("weighted_f", "iou"), strict=True):
        found = [values[name] for values in scores.by_class().values()]
        assert found == pytest.approx(metric.compute().tolist(), abs=1e-7, nan_ok=True)
    assert np.isnan(scores.by_class()["sky"]["boundary_f"])  # neither true nor predicted


def test_curves_of_classes_have_a_row_per_image():
    scores = score(reversed(list(class_maps())), Conventions(cuts=(0.3, 0.5), cut=0.5), CLASSES)
    np.testing.assert_array_equal(scores.curves["weighted_f"][:, 1], scores.columns["weighted_f_cut"])
    assert len(set(scores.columns["weighted_f_cut"])) == len(scores.names)


@pytest.mark.parametrize("maps", ["one", "several"])
def test_files_hold_everything(tmp_path, maps):
    names = CLASSES if maps == "several" else ("foreground",)
    images = list(class_maps() if maps == "several" else foreground_maps(torch.float32))
    scores = score(images, class_names=names)
    scores.save(tmp_path)
    loaded = Scores.load(tmp_path)
    assert loaded.figures() == scores.figures()
    assert loaded.measures == scores.measures and loaded.conventions == scores.conventions
    with (tmp_path / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == sorted(name for name, *_ in images)
    assert int(rows[0]["width"]) == images[0][2].shape[1]
    pixels = images[0][2] != 255
    share = (images[0][2][pixels] > 0).float().mean().item()
    assert float(rows[0]["foreground"]) == pytest.approx(share)
    assert np.mean([float(row["iou"]) for row in rows]) == pytest.approx(scores.columns["iou"].mean())


def test_an_image_scored_twice_counts_once():
    images = list(foreground_maps(torch.float32))
    both = Scores.merge([score(images[4:]), score(images[:5]), score(images[:1])])
    assert both.names == sorted(name for name, *_ in images)
    assert both.figures() == pytest.approx(score(images).figures(), abs=1e-15)


def test_weights_are_repetitions():
    scores = score(foreground_maps(torch.float32))
    weights = np.array([[2, 0, 1, 1, 0, 3, 0], [0, 0, 0, 1, 0, 0, 0]], dtype=float)
    figures = scores.figures(weights)
    repeated = [name for name, times in zip(scores.names, weights[0], strict=True) for _ in range(int(times))]
    expected = scores.take(repeated).figures()
    assert {name: value[0] for name, value in figures.items()} == pytest.approx(expected, abs=1e-14)
    assert np.isnan(figures["weighted_f"][1])  # the empty image alone
    assert figures["iou"].shape == (2,)


def test_two_empty_masks_agree():
    nothing = torch.zeros(8, 9)
    figures = score([("a", nothing, nothing), ("b", nothing, nothing)]).figures()
    assert figures["iou"] == 1 and np.isnan(figures["weighted_f"])


def test_damaged_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="no per-image scores"):
        Scores.load(tmp_path)
    score(foreground_maps(torch.float32)).save(tmp_path)
    lines = (tmp_path / "images.csv").read_text().splitlines()
    (tmp_path / "images.csv").write_text("\n".join([lines[0], lines[2]]))
    with pytest.raises(ValueError, match="different images"):
        Scores.load(tmp_path)
    (tmp_path / "curves.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="cannot be read"):
        Scores.load(tmp_path)


def test_a_measure_tells_its_direction_and_averaging():
    assert Measure("mae", "MAE", "lower").describe() == "MAE ↓"
    assert available_measures()["iou"].describe() == "IoU ↑, of the data set"
