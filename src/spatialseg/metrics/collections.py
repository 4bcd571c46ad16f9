"""The sets of measures that papers print."""

from pkgutil import resolve_name
from typing import Any

from torchmetrics import Metric, MetricCollection

from spatialseg.conventions import Conventions
from spatialseg.metrics.base import ImageMean
from spatialseg.metrics.classes import MeanIoU, WeightedFMeasure
from spatialseg.metrics.registry import IMAGE_MEAN, Measuring, families

EVERY_EPOCH = ("weighted_f", "mae", "iou")


def saliency_metrics(full: bool = False, ignore_index: int | None = 255, **kwargs: Any) -> MetricCollection:
    """Return the measures of a foreground map, updated with probabilities and targets, both (N, H, W).

    Args:
        full: All registered measures, for a final test, instead of `weighted_f`, `mae` and `iou` alone.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of every measure, such as `validate_args`.
    """
    named = {each.measures[0].name: each for each in families() if each.metric}
    chosen = named if full else EVERY_EPOCH
    return MetricCollection({name: _metric(named[name], ignore_index, kwargs) for name in chosen})


def segmentation_metrics(classes: int, ignore_index: int | None = 255, **kwargs: Any) -> MetricCollection:
    """Return `weighted_f` (one class against the rest, mean over classes) and `iou` (mean over classes).

    Args:
        classes: C, at least 2; updated with probabilities (N, C, H, W) and class indices (N, H, W).
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of both, such as `validate_args`.
    """
    return MetricCollection(
        {
            "weighted_f": WeightedFMeasure(ignore_index=ignore_index, classes=classes, **kwargs),
            "iou": MeanIoU(classes=classes, ignore_index=ignore_index, **kwargs),
        }
    )


def _metric(measuring: Measuring, ignore_index: int | None, kwargs: dict[str, Any]) -> Metric:
    """Make the metric that a family is registered with."""
    if measuring.metric == IMAGE_MEAN:
        return ImageMean(measuring, Conventions(ignore_index=ignore_index), **kwargs)
    metric: Metric = resolve_name(measuring.metric)(ignore_index=ignore_index, **kwargs)
    return metric
