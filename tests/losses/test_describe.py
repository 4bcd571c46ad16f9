import inspect

import pytest
from rich.console import Console

from spatialseg.losses import available_losses
from spatialseg.losses.describe import describe_loss, describe_losses
from spatialseg.losses.registry import loss_class


def shown(what) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_table_has_every_loss_with_its_arguments_and_paper():
    text = shown(describe_losses())
    for name in available_losses():
        assert name in text
    assert "dependency='local'" in text and "Kolkin" in text and "binary, multi-class" in text


def test_details_of_one_loss():
    text = shown(describe_loss("lal"))
    assert "LocallyAdaptiveLoss" in text and "Guo et al." in text and "Minkowski exponent" in text and "5.0" in text
    with pytest.raises(ValueError, match="did you mean 'lal'"):
        describe_loss("lall")


@pytest.mark.parametrize("name", available_losses())
def test_every_loss_is_documented(name):
    cls = loss_class(name)
    documentation = inspect.getdoc(cls)
    assert cls.paper
    for argument in inspect.signature(cls).parameters:
        assert f"{argument}: " in documentation
