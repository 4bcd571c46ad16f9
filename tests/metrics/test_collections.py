import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryJaccardIndex, MulticlassJaccardIndex

from spatialseg.metrics import MeanAbsoluteError, MeanIoU, WeightedFMeasure, saliency_metrics, segmentation_metrics


def batches(count=3):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        target = (torch.rand(2, 20, 30, generator=generator) > 0.7).long()
        yield (0.6 * target + 0.4 * torch.rand(2, 20, 30, generator=generator)).sqrt(), target


def test_keys_and_values_of_the_cheap_set():
    metrics = saliency_metrics()
    reference = BinaryJaccardIndex()
    errors = []
    for prediction, target in batches():
        metrics.update(prediction, target)
        reference.update(prediction, target)
        errors.append((prediction - target).abs().double().mean())
    values = metrics.compute()
    assert list(values) == ["iou", "mae", "weighted_f"]
    assert values["iou"].item() == pytest.approx(reference.compute().item(), abs=1e-6)
    assert values["mae"].item() == pytest.approx(torch.stack(errors).mean().item(), abs=1e-7)
    assert 0 < values["weighted_f"].item() < 1


def test_classes_against_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    metrics = segmentation_metrics(5)
    reference = MulticlassJaccardIndex(5, ignore_index=255, average="none")
    for _ in range(3):
        target = torch.randint(0, 5, (2, 20, 30), generator=generator)
        probabilities = torch.randn(2, 5, 20, 30, generator=generator)
        probabilities.scatter_add_(1, target[:, None], torch.full((2, 1, 20, 30), 2.0))
        target[:, :2] = 255
        metrics.update(probabilities.softmax(dim=1), target)
        reference.update(probabilities, target)
    values = metrics.compute()
    assert list(values) == ["iou", "weighted_f"]
    assert values["iou"].item() == pytest.approx(reference.compute().mean().item(), abs=1e-6)
    each = MeanIoU(classes=5, average="none")
    each.update(probabilities.softmax(dim=1), target)
    reference.reset()
    reference.update(probabilities, target)
    assert each.compute().tolist() == pytest.approx(reference.compute().tolist(), abs=1e-6)


def test_iou_leaves_out_absent_classes():
    probabilities = torch.eye(4)[torch.tensor([[[0, 1], [1, 0]]])].permute(0, 3, 1, 2)
    metric = MeanIoU(classes=4)
    metric.update(probabilities, torch.tensor([[[0, 1], [1, 1]]]))
    assert metric.compute().item() == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_iou_names_bad_input():
    probabilities = torch.rand(2, 3, 4, 4)
    target = torch.zeros(2, 4, 4, dtype=torch.long)
    metric = MeanIoU(classes=3)
    with pytest.raises(ValueError, match="target of image 1"):
        metric.update(probabilities, target + torch.tensor([0, 3]).view(2, 1, 1))
    probabilities[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="prediction of image 1 of the batch holds NaN"):
        metric.update(probabilities, target)
    with pytest.raises(ValueError, match="expected predictions"):
        metric.update(probabilities[:, 0], target)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 1, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_iou_counts_alike_whether_it_looks_or_not(shape, dtype):
    prediction, target = next(batches(1))
    if dtype is torch.uint8:
        prediction = (255 * prediction).to(dtype)
    checked, unchecked = MeanIoU(), MeanIoU(validate_args=False)
    checked.update(prediction[:, :4, :5], target[:, :4, :5])
    unchecked.update(prediction[:, :4, :5].reshape(shape), target[:, :4, :5])
    assert unchecked.compute() == checked.compute()
    with pytest.raises(ValueError, match="must share one shape"):
        unchecked.update(prediction, target[:1])


def test_mae_counts_images_not_pixels():
    metric = MeanAbsoluteError()
    metric.update(torch.full((1, 10, 10), 1.0), torch.zeros(1, 10, 10))
    target = torch.zeros(1, 2, 2)
    target[0, 0, 0] = 255
    metric.update(torch.full((1, 1, 2, 2), 0.25), target[:, None])
    assert metric.compute().item() == pytest.approx((1 + 0.25) / 2)


def test_measures_of_one_collection_keep_their_own_states():
    # A perfect first batch makes the states of all of them equal; torchmetrics shares equal states of equal names.
    target = torch.zeros(1, 8, 8)
    target[0, 2:5, 3:6] = 1
    metrics = MetricCollection(
        {
            "one": WeightedFMeasure(),
            "two": WeightedFMeasure(beta2=0.3),
            "stretched": WeightedFMeasure(normalize=True),
        }
    )
    metrics.update(target, target)
    metrics.update(0.3 + target.roll(1, 1) / 2, target)
    values = metrics.compute()
    assert len({round(value.item(), 6) for value in values.values()}) == 3


def test_ious_of_different_thresholds_keep_their_own_states():
    target = torch.eye(8)[None]
    metrics = MetricCollection({"low": MeanIoU(), "high": MeanIoU(threshold=0.9)})
    metrics.update(target, target)
    metrics.update(0.8 * target, target)
    assert metrics.compute() == {"low": 1, "high": 0.5}
