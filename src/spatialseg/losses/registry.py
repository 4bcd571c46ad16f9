"""Losses by name: how they are registered, found, built and summed.

A loss is named by a registered name, by an entry point of the group `spatialseg.losses`, or by a dotted path:

    losses:
      - {name: wfb, args: {beta2: 0.3}}
      - {name: boundary, weight: 0.5, schedule: {kind: linear}}
      - {name: my_package.my_module.MyLoss}
"""

import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spatialseg.hints import did_you_mean
from spatialseg.losses.schedules import Schedule, build_schedule

Loss = TypeVar("Loss", bound=type[nn.Module])

ENTRY_POINTS = "spatialseg.losses"
_registry: dict[str, type[nn.Module]] = {}


@dataclass
class LossTerm:
    """One term of a weighted sum of losses."""

    name: str
    """A registered name, or the dotted path of a class."""
    weight: float = 1.0
    """Factor of the term, positive; a schedule may bring it down to 0."""
    args: dict[str, Any] = field(default_factory=dict)
    """Arguments of the loss."""
    schedule: dict[str, Any] | None = None
    """What the weight is multiplied by over the epochs, if by anything: `kind` and the arguments of that schedule."""


def register_loss(name: str) -> Callable[[Loss], Loss]:
    """Register a loss class under a short name, as a decorator.

    Args:
        name: What configurations call the loss; no dots.

    Returns:
        The decorator, which returns the class unchanged.

    Raises:
        ValueError: The name has a dot, or another class has it already.

    Example:
        >>> @register_loss("brier")
        ... class BrierLoss(nn.Module):
        ...     def forward(self, logits, target):
        ...         return (logits.sigmoid()[:, 0] - target).square().mean()
        >>> build_loss("brier").weights
        {'brier': 1.0}
    """
    if not name or "." in name:
        raise ValueError(f"a loss is registered under a name without dots, got {name!r}")

    def decorator(cls: Loss) -> Loss:
        known = _registry.get(name, cls)
        # A module that is reloaded defines the same class again, which is no conflict.
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f'two losses are named "{name}": {_place(known)} and {_place(cls)}; rename one of them')
        _registry[name] = cls
        return cls

    return decorator


def available_losses() -> list[str]:
    """Return the sorted names of all registered losses, plug-ins included."""
    return sorted(_registry.keys() | {point.name for point in _entry_points()})


def loss_class(name: str) -> type[nn.Module]:
    """Return the class of a loss.

    Args:
        name: A registered name, or the dotted path of a class.

    Raises:
        ValueError: There is no such loss, or a plug-in has the name of another loss.
        ImportError: The plug-in of this name cannot be loaded.
        TypeError: What was found is no `nn.Module` class.
    """
    if "." in name:
        return _import(name)
    for point in _entry_points():
        if point.name == name:
            register_loss(name)(_load(point))
    if name not in _registry:
        known = available_losses()
        raise ValueError(f"there is no loss {name!r}{did_you_mean(name, known)}; known losses: {', '.join(known)}")
    return _registry[name]


def make_loss(name: str, args: Mapping[str, Any]) -> nn.Module:
    """Return a loss of that name, see `loss_class`, made with these arguments, or raise a ValueError that names one."""
    cls = loss_class(name)
    check_arguments(f"loss {name!r}", inspect.signature(cls), args)
    for argument, value in args.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"loss {name!r}: {argument} must be finite, got {value}")
    try:
        return cls(**args)
    except TypeError as error:
        raise ValueError(f"loss {name!r} cannot be made with {dict(args)}: {error}") from error


class LossSum(nn.Module):
    """A weighted sum of losses, each of whose values can be logged.

    Args:
        terms: Name, weight, arguments and schedule of each loss.

    Raises:
        ValueError: No term, an unknown loss or schedule, an unknown argument, or a weight that is not positive.
    """

    def __init__(self, terms: Iterable[LossTerm]) -> None:
        super().__init__()
        self.losses = nn.ModuleDict()
        self._factors: dict[str, tuple[float, Schedule | None]] = {}
        for term in terms:
            if not (math.isfinite(term.weight) and term.weight > 0):
                raise ValueError(
                    f"the weight of loss {term.name!r} must be positive and finite, got {term.weight}; "
                    "take the term out to do without it, or let a schedule bring its weight to 0"
                )
            name = key = term.name.rpartition(".")[2]
            repeats = 1
            while key in self.losses:
                repeats += 1
                key = f"{name}_{repeats}"
            self.losses[key] = make_loss(term.name, term.args)
            self._factors[key] = term.weight, build_schedule(term.schedule) if term.schedule is not None else None
        if not self.losses:
            raise ValueError("a loss needs at least one term, got none")
        self.set_epoch(0, 1)

    @property
    def weights(self) -> dict[str, float]:
        """The current weight of each term."""
        return dict(self._weights)

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        """Set the scheduled weights for an epoch; they depend on nothing else, so a resumed run has the same.

        Args:
            epoch: The epoch, counted from 0.
            max_epochs: The number of epochs of the whole training.
        """
        self._weights = {
            key: weight * schedule(epoch, max_epochs) if schedule else weight
            for key, (weight, schedule) in self._factors.items()
        }

    def terms(self, logits: Tensor, target: Tensor, distance: Tensor | None = None) -> dict[str, Tensor]:
        """Return the unweighted value of each term, in order; a second term of one name is called `name_2`.

        Args:
            logits: Scores, shape (N, C, H, W).
            target: Binary (N, H, W) or (N, 1, H, W), multi-class (N, H, W).
            distance: What `distance_maps` gives, if the loader has done so; for the terms that can use it.
        """
        return {
            key: loss(logits, target, distance=distance)
            if distance is not None and "distance" in inspect.signature(loss.forward).parameters
            else loss(logits, target)
            for key, loss in self.losses.items()
        }

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of what `terms` returned, a scalar."""
        return torch.stack([self._weights[key] * value for key, value in values.items()]).sum()

    def forward(self, logits: Tensor, target: Tensor, distance: Tensor | None = None) -> Tensor:
        """Return the weighted sum of all terms, a scalar; arguments are those of `terms`."""
        return self.total(self.terms(logits, target, distance))


def build_loss(terms: str | LossTerm | Mapping[str, Any] | Iterable[str | LossTerm | Mapping[str, Any]]) -> LossSum:
    """Build a loss from its description.

    Args:
        terms: A name, a `LossTerm`, a mapping with its keys, or several of these.

    Returns:
        The weighted sum of the terms, a module called as `loss(logits, target)`.

    Raises:
        ValueError: An unknown loss, argument, key or schedule; the message lists what there is.

    Example:
        >>> loss = build_loss(["wfb", {"name": "bce", "weight": 0.5}])
        >>> loss.weights
        {'wfb': 1.0, 'bce': 0.5}
    """
    several = [terms] if isinstance(terms, str | LossTerm | Mapping) else terms
    return LossSum([_term(each) for each in several])


def check_arguments(what: str, signature: inspect.Signature, args: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first argument which is not in the signature, and those which are.

    Args:
        what: What the arguments are for, as the message's subject.
        signature: The parameters there are.
        args: The arguments by name.
    """
    parameters = signature.parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in args:
        if name not in parameters:
            known = ", ".join(map(str, parameters.values())) or "none"
            raise ValueError(f"{what} has no argument {name!r}{did_you_mean(name, parameters)}; its arguments: {known}")


def _term(term: str | LossTerm | Mapping[str, Any]) -> LossTerm:
    if isinstance(term, LossTerm):
        return term
    if isinstance(term, str):
        return LossTerm(term)
    check_arguments("a loss term", inspect.signature(LossTerm), term)
    if "name" not in term:
        raise ValueError(f"a loss term needs a name, got {dict(term)}; known losses: {', '.join(available_losses())}")
    return LossTerm(**term)


def _import(path: str) -> type[nn.Module]:
    module, _, attribute = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no loss at {path!r}: {error}") from error
    return _module_class(found, path)


@cache
def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINTS))


def _load(point: EntryPoint) -> type[nn.Module]:
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        package = point.dist.name if point.dist else point.value
        raise ImportError(f'the loss "{point.name}" of package {package} cannot be loaded: {error}') from error
    return _module_class(found, point.value)


def _module_class(found: object, path: str) -> type[nn.Module]:
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise TypeError(f"{path!r} must be a class derived from torch.nn.Module, got {found!r}")
    return found


def _place(cls: type) -> str:
    try:
        where = f" ({inspect.getsourcefile(cls)})"
    except TypeError:
        where = ""
    return f"{cls.__module__}.{cls.__qualname__}{where}"
