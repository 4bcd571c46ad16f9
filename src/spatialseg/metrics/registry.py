"""Measures by name: what is counted in an image, what follows from the counts, and how both are called."""

from collections.abc import Callable, Collection
from typing import ClassVar, Literal, TypeVar

from torch import Tensor

from spatialseg.conventions import Conventions
from spatialseg.functional.maps import Maps
from spatialseg.scores import Measure

OfClasses = Literal["soft", "hard", ""]
IMAGE_MEAN = "spatialseg.metrics.base.ImageMean"


class Measuring:
    """A family of measures that are counted together, the base of what is registered; it keeps nothing.

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
    """Names of the curves over the thresholds k/255 that `values` returns, whatever the conventions."""

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return what is counted in each image, (N, ...)."""
        raise NotImplementedError

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return what follows from the counts of N images, float64; by default they are its one measure themselves.

        Values, (N,): of each measure, and what a measure of the data set is a ratio of; and curves, (N, thresholds).
        """
        return {self.measures[0].name: counts.double()}


Class = TypeVar("Class", bound=type[Measuring])
_registry: list[Measuring] = []


def register_measure(*measures: Measure, metric: str = IMAGE_MEAN) -> Callable[[Class], Class]:
    """Register a class under the measures that it takes, as a decorator.

    Args:
        measures: Its measures; their names are among those that its `values` returns.
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
        _registry.append(cls())
        return cls

    return decorator


def available_measures(further: bool = False) -> dict[str, Measure]:
    """Return all registered measures by name, in the order in which tables print them.

    Args:
        further: Those on request, too.
    """
    return {measure.name: measure for each in _registry if further or not each.on_request for measure in each.measures}


def families(further: Collection[str] = ()) -> list[Measuring]:
    """Return what is registered in the same order, of those on request the ones with a measure of these names.

    Raises:
        ValueError: There is no measure of such a name.
    """
    if unknown := set(further) - (known := available_measures(further=True)).keys():
        raise ValueError(f"there is no measure named {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    wanted = set(further)
    return [each for each in _registry if not each.on_request or wanted & {measure.name for measure in each.measures}]
