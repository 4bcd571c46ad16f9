import pytest
import torch

from spatialseg.encoder import bundled_weights
from spatialseg.network import make_network


def test_arguments_of_the_architecture_reach_it():
    network = make_network("unet", "resnet18", None, 2, {"decoder_channels": [8, 8, 8, 8, 4]})
    assert network.segmentation_head[0].in_channels == 4
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 2, 64, 64)


def test_bundled_weights_are_loaded():
    encoder = make_network("fpn", "tu-tf_efficientnet_lite1", "bundled", 1).encoder
    first = next(iter(bundled_weights("tu-tf_efficientnet_lite1").values()))
    torch.testing.assert_close(next(iter(encoder.state_dict().values())), first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("unett", "resnet18", None, 1), "no architecture 'unett', did you mean 'unet'"),
        (("unet", "resnet81", None, 1), "no encoder 'resnet81', did you mean 'resnet18'"),
        (("unet", "tu-resnet18x", None, 1), "did you mean 'tu-resnet18'"),
        (("unet", "resnet18", "bundled", 1), "not for the encoder 'resnet18'"),
        (("unet", "resnet18", None, 1, {"decoder_chanels": [8] * 5}), "did you mean 'decoder_channels'"),
        (("unet", "resnet18", None, 1, {"activation": "sigmoid"}), "unet has no argument 'activation'"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is_near(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_network(*arguments)
