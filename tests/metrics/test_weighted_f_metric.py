import warnings

import numpy as np
import pytest
import torch

from spatialseg.functional import weighted_f_measure
from spatialseg.metrics import WeightedFMeasure


def tensors(pair):
    return torch.tensor(pair.prediction)[None], torch.tensor(pair.mask > 127)[None]


def example(seed=0, images=4, size=(24, 37)):
    generator = torch.Generator().manual_seed(seed)
    target = (torch.rand(images, *size, generator=generator) > 0.9).long()
    return torch.rand(images, *size, generator=generator), target


def test_without_stretching_a_known_value(sod_maps):
    metric = WeightedFMeasure()
    metric.update(*tensors(sod_maps[1]))
    assert metric.compute().item() == pytest.approx(0.796349, abs=1e-6)


@pytest.mark.parametrize(("empty_target", "expected"), [("skip", 0.6), ("zero", 0.2), ("strict", (0.6 + 1 + 0) / 3)])
def test_empty_targets(empty_target, expected):
    target = torch.zeros(3, 16, 16)
    target[0] = 1
    prediction = torch.full((3, 16, 16), 0.6)
    prediction[1] = 0.4  # empty where the target is, too
    metric = WeightedFMeasure(empty_target=empty_target, components=True)
    with pytest.warns(UserWarning, match=f'empty_target="{empty_target}"'):
        metric.update(prediction, target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        metric.update(prediction, target)
    # Zero padding lowers the error that a pixel near the border depends on, so recall is a little above 0.6.
    full = weighted_f_measure(prediction[:1].double(), target[:1])
    shift = {"skip": 1, "zero": 1 / 3, "strict": 1 / 3}[empty_target]
    value = metric.compute()["weighted_recall"].item()
    assert value == pytest.approx(expected + (full.recall.item() - 0.6) * shift, abs=1e-7)
    assert metric.images.item() == (2 if empty_target == "skip" else 6)


def test_nothing_counted_is_nan():
    metric = WeightedFMeasure()
    with pytest.warns(UserWarning):
        metric.update(torch.rand(1, 5, 5), torch.zeros(1, 5, 5))
    assert metric.compute().isnan()


@pytest.mark.parametrize("shape", [(4, 24, 37), (4, 1, 24, 37)])
@pytest.mark.parametrize("target_dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_is_the_mean_of_the_functional(shape, target_dtype):
    prediction, target = example()
    metric = WeightedFMeasure(beta2=0.3)
    metric.update(prediction.view(shape), target.view(shape).to(target_dtype))
    expected = weighted_f_measure(prediction.double(), target, beta2=0.3).f.mean()
    assert metric.compute().item() == pytest.approx(expected.item(), abs=1e-6)


def test_ignored_pixels_take_no_part():
    prediction, target = example()
    prediction = prediction.double()
    half = target.clone()
    half[:, :, 20:] = 255
    whole, masked = WeightedFMeasure(), WeightedFMeasure()
    whole.update(prediction[:, :, :20], target[:, :, :20])
    masked.update(prediction, half)
    assert masked.compute().item() == pytest.approx(whole.compute().item(), abs=1e-9)


def test_stretching_leaves_out_ignored_pixels():
    prediction, target = example()
    prediction = 0.25 + prediction / 2
    spoiled = prediction.clone()
    spoiled[:, 0, 0], target[:, 0, 0] = 1.0, 255
    values = []
    for maps in (prediction, spoiled):
        metric = WeightedFMeasure(normalize=True)
        metric.update(maps, target)
        values.append(metric.compute().item())
    assert values[0] == pytest.approx(values[1], abs=1e-9)


def test_classes_one_against_the_rest():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(3, 4, 20, 21, generator=generator).softmax(dim=1).double()
    target = torch.randint(0, 3, (3, 20, 21), generator=generator)  # class 3 never occurs
    target[:, :3] = 255
    metric = WeightedFMeasure(classes=4, average="none")
    metric.update(probabilities, target)
    expected = []
    for one in range(3):
        binary = (target == one).long().masked_fill(target == 255, 255)
        expected.append(weighted_f_measure(probabilities[:, one], binary).f.mean().item())
    # The function keeps distances in float32.
    assert metric.compute()[:3].tolist() == pytest.approx(expected, abs=1e-9)
    assert metric.compute()[3].isnan()
    macro = WeightedFMeasure(classes=4)
    macro.update(probabilities, target)
    assert macro.compute().item() == pytest.approx(np.mean(expected), abs=1e-9)

    labels = torch.stack([(target == one).long().masked_fill(target == 255, 255) for one in range(4)], dim=1)
    multilabel = WeightedFMeasure(classes=4)
    multilabel.update(probabilities, labels)
    assert multilabel.compute().item() == macro.compute().item()


def test_bad_input_is_named():
    prediction, target = example()
    metric = WeightedFMeasure()
    with pytest.raises(ValueError, match="share one shape"):
        metric.update(prediction, target[:, :-1])
    broken = prediction.clone()
    broken[2, 3, 4] = torch.nan
    with pytest.raises(ValueError, match=r"image 2 of the batch holds NaN at 1 pixels"):
        metric.update(broken, target)
    with pytest.raises(ValueError, match=r"image 1 of the batch spans .* apply the sigmoid"):
        metric.update(prediction + torch.tensor([0, 1, 0, 0]).view(-1, 1, 1), target)
    with pytest.raises(ValueError, match="image 0 of the batch holds the values 0, 2"):
        metric.update(prediction, target * 2)
    with pytest.raises(ValueError, match=r"floating-point or uint8, got torch\.int64"):
        metric.update(target, target)
    with pytest.raises(ValueError, match="image 1 of the batch holds the value 7; expected 0 to 1"):
        one = target.clone()
        one[1, 0, 0] = 7
        WeightedFMeasure(classes=2).update(torch.stack([prediction, 1 - prediction], dim=1), one)


@pytest.mark.parametrize("arguments", [{"beta2": 0}, {"empty_target": "none"}, {"average": "micro"}, {"classes": 0}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        WeightedFMeasure(**arguments)
