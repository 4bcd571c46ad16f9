"""Measures by name: what is counted in an image, what follows from the counts, and how both are called."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple, TypeVar

from torch import Tensor

from spatialseg.functional.maps import Maps
from spatialseg.metrics.conventions import Conventions
from spatialseg.scores import Measure

OfClasses = Literal["soft", "hard", ""]
IMAGE_MEAN = "spatialseg.metrics.base.ImageMean"


class ImageValues(NamedTuple):
    """What the counts of N images say; float64."""

    columns: Mapping[str, Tensor]
    """A value per image, (N,): of each measure, and what a measure of the data set is a ratio of."""
    curves: Mapping[str, Tensor] = MappingProxyType({})
    """Values at the thresholds k/255, (N, 256)."""


class Measuring:
    """A family of measures that are counted together, the base of what is registered; it has no instances.

    Nothing here needs `torchmetrics`, whose import takes as long as to score hundreds of maps.
    """

    measures: ClassVar[tuple[Measure, ...]]
    """Set by `register_measure`, as is `metric`."""
    metric: ClassVar[str]
    """Dotted path of the `torchmetrics` class; nothing where there is none."""
    of_classes: ClassVar[OfClasses] = ""
    """Of several classes, each against the rest: whether the class's probability is scored, the pixels where it is the
    most probable one, or nothing."""
    on_request: ClassVar[bool] = False
    """Whether the measures are only taken where `Conventions.further` names one of them."""
    curves: ClassVar[tuple[str, ...]] = ()
    """Names of the curves that `values` returns, whatever the conventions."""

    @staticmethod
    def count(maps: Maps, conventions: Conventions) -> Tensor:
        """Return what is counted in each image, (N, ...)."""
        raise NotImplementedError

    @staticmethod
    def values(counts: Tensor, conventions: Conventions) -> ImageValues:
        """Return what follows from the counts of many images."""
        raise NotImplementedError


Class = TypeVar("Class", bound=type[Measuring])
_registry: list[type[Measuring]] = []


def register_measure(*measures: Measure, metric: str = IMAGE_MEAN) -> Callable[[Class], Class]:
    """Register a class under the measures that it takes, as a decorator.

    Args:
        measures: Its measures; their names are the columns and curves that its `values` returns.
        metric: Dotted path of the `torchmetrics` class that accumulates them, made with an argument `ignore_index`; by
            default `ImageMean` over the registered class; nothing for none.

    Returns:
        The decorator, which returns the class unchanged.

    Raises:
        ValueError: Another class has a measure of that name already.
    """

    def decorator(cls: Class) -> Class:
        taken = available_measures(further=True).keys() & {measure.name for measure in measures}
        if taken:
            raise ValueError(f"there is a measure named {', '.join(sorted(taken))} already; rename one of them")
        cls.measures, cls.metric = measures, metric
        _registry.append(cls)
        return cls

    return decorator


def available_measures(further: bool = False) -> dict[str, Measure]:
    """Return all registered measures by name, in the order in which tables print them.

    Args:
        further: Those on request, too.
    """
    return {measure.name: measure for cls in _registry if further or not cls.on_request for measure in cls.measures}


def measuring_classes(further: Collection[str] = ()) -> list[type[Measuring]]:
    """Return the registered classes in the same order, of those on request the ones with a measure of these names.

    Raises:
        ValueError: There is no measure of such a name.
    """
    if unknown := set(further) - (known := available_measures(further=True)).keys():
        raise ValueError(f"there is no measure named {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    wanted = set(further)
    return [cls for cls in _registry if not cls.on_request or wanted & {measure.name for measure in cls.measures}]
