import pytest
import segmentation_models_pytorch as smp
import skimage.data
import timm
import torch
from torchvision.transforms.v2 import functional as F

from spatialseg.encoder import BUNDLED_ENCODERS, bundled_weights, load_bundled_weights, normalisation

EGYPTIAN_CAT, ESPRESSO = 285, 967  # classes of ImageNet


@pytest.mark.parametrize("name", BUNDLED_ENCODERS)
def test_bundled_weights_recognise_a_cat_and_a_coffee(name):
    """The classifier's own answer tells whether the tensors were matched right and the normalisation fits."""
    network = timm.create_model(name.removeprefix("tu-"), pretrained=False).eval()
    network.load_state_dict(dict(zip(network.state_dict(), bundled_weights(name).values(), strict=True)))
    encoder = smp.encoders.get_encoder(name, weights=None).eval()
    load_bundled_weights(name, encoder)
    mean, std = normalisation(name, "bundled")
    for photo, expected in ((skimage.data.cat(), EGYPTIAN_CAT), (skimage.data.coffee(), ESPRESSO)):
        image = F.resize(torch.from_numpy(photo).permute(2, 0, 1), [224, 224]) / 255
        image = F.normalize(image, list(mean), list(std))[None]
        with torch.no_grad():
            assert network(image).argmax().item() == expected
            whole = network.forward_intermediates(image, intermediates_only=True)
            for ours, theirs in zip(encoder(image)[1:], whole, strict=True):
                torch.testing.assert_close(ours, theirs)


def test_bundled_weights_refuse_another_encoder():
    first, second, *_ = BUNDLED_ENCODERS
    for name in ("resnet18", second):
        with pytest.raises(ValueError, match=name):
            load_bundled_weights(name, smp.encoders.get_encoder(first, weights=None))


def test_normalisation_is_the_one_of_the_weights():
    assert normalisation("resnet18", None) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalisation("tu-resnet18", "imagenet")[0] == (0.485, 0.456, 0.406)
    with pytest.raises(ValueError, match="no pretrained weights"):
        normalisation("tu-nosuch", "imagenet")
