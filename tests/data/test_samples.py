"""Single samples: augmentation keeps image and mask together, evaluation resizes and pads."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate
from torchvision import tv_tensors

from spatialseg.data.samples import GREY, Augment, EvaluationSamples, PadToStride


class Blobs(torch.utils.data.Dataset):
    """Images of given sizes."""

    def __init__(self, *sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, *self.sizes[index]), dtype=torch.uint8, generator=generator)
        mask = (image[0] > 127).byte()
        return {"image": tv_tensors.Image(image), "mask": tv_tensors.Mask(mask), "name": f"blob{index}"}


class TestAugment:
    @settings(deadline=None, max_examples=60)
    @given(
        seed=st.integers(0, 2**31),
        height=st.integers(20, 90),
        width=st.integers(20, 90),
        size=st.sampled_from([47, 64, 96]),  # no crop is twice as long: nearest there is half a pixel to one side
    )
    def test_image_and_mask_stay_aligned(self, seed, height, width, size):
        """Red and green encode the pixel's place, and so does the mask: after augmentation they still must agree."""
        rows, columns = np.mgrid[:height, :width]
        image = np.stack([rows * 255 / (height - 1), columns * 255 / (width - 1), 0 * rows]).round().astype(np.uint8)
        torch.manual_seed(seed)
        augment = Augment(size, (0.3, 1.0), flip=True, color_jitter=0)
        state = torch.get_rng_state()
        for channel, length in ((0, height), (1, width)):
            torch.set_rng_state(state)
            code = tv_tensors.Mask(torch.from_numpy(image[channel]))
            crop, mask = augment(tv_tensors.Image(torch.from_numpy(image)), code)
            step = 255 / (length - 1)
            error = (crop[channel].float() - mask.float()).abs()
            # Nearest and bilinear differ by up to half a source pixel; antialiasing pulls in the outermost ones.
            assert error[2:-2, 2:-2].max() <= 0.75 * step + 2
            assert (
                abs((crop[channel].float() - mask.float())[2:-2, 2:-2].mean()) <= 0.1 * step + 1
            )  # and on neither side

    def test_the_crop_covers_the_range_of_scales_and_both_hands(self):
        columns = torch.arange(100, dtype=torch.uint8).expand(3, 100, 100)
        augment = Augment(50, (0.25, 1.0), flip=True, color_jitter=0)
        torch.manual_seed(0)
        crops = [augment(tv_tensors.Image(columns), tv_tensors.Mask(columns[0]))[1].int() for _ in range(200)]
        spans = torch.tensor([int(crop[25, -1] - crop[25, 0]) for crop in crops])
        assert 0.35 < (spans < 0).float().mean() < 0.65
        assert spans.abs().min() < 50 and spans.abs().max() > 90
        still = Augment(50, (1.0, 1.0), flip=False, color_jitter=0)
        image, _ = still(tv_tensors.Image(columns), tv_tensors.Mask(columns[0]))
        expected = interpolate(columns[None].float(), (50, 50), mode="bilinear", antialias=True)[0]
        assert (image.float() - expected).abs().max() <= 1

    def test_colour_jitter_leaves_the_mask(self):
        sample = Blobs((32, 32))[0]
        torch.manual_seed(0)
        image, mask = Augment(32, (1.0, 1.0), flip=False, color_jitter=0.5)(sample["image"], sample["mask"])
        assert (mask == sample["mask"]).all()
        assert (image != sample["image"]).float().mean() > 0.5

    def test_ignored_pixels_stay_ignored(self):
        mask = tv_tensors.Mask(torch.full((40, 40), 255, dtype=torch.uint8))
        mask[10:30, 10:30] = 3
        _, out = Augment(64, (0.5, 1.0), flip=True, color_jitter=0.2)(Blobs((40, 40))[0]["image"], mask)
        assert set(out.unique().tolist()) == {3, 255}


@settings(deadline=None, max_examples=40)
@given(
    # Not narrower: PyTorch's antialiased uint8 resize is wrong for images one pixel wide.
    sizes=st.lists(st.tuples(st.integers(12, 80), st.integers(12, 80)), min_size=1, max_size=4),
    size=st.integers(16, 70),
    stride=st.sampled_from([1, 8, 32]),
    keep_aspect=st.booleans(),
)
def test_padding(sizes, size, stride, keep_aspect):
    samples = EvaluationSamples(Blobs(*sizes), size, keep_aspect)
    batch = PadToStride(stride)([samples[index] for index in range(len(samples))])
    assert batch["image"].dtype == torch.uint8
    assert [tuple(mask.shape) for mask in batch["mask"]] == batch["native"] == sizes
    for axis in (0, 1):
        padded, largest = batch["image"].shape[2 + axis], max(part[axis] for part in batch["size"])
        assert padded % stride == 0 and largest <= padded < largest + stride
    for index, (height, width) in enumerate(batch["size"]):
        native = sizes[index]
        assert max(height, width) == size
        if keep_aspect:
            assert abs(min(height, width) - max(1, min(native) * size / max(native))) <= 0.5
        else:
            assert height == width
        image = batch["image"][index]
        assert (image[:, height:] == GREY).all() and (image[:, :, width:] == GREY).all()
        original = Blobs(*sizes)[index]["image"].as_subclass(torch.Tensor)[None].float()
        expected = interpolate(original, (height, width), mode="bilinear", antialias=True)[0]
        error = (image[:, :height, :width].float() - expected).abs().max()
        assert error < 1.01  # two passes, each rounded to whole numbers
        assert (batch["mask"][index] == Blobs(*sizes)[index]["mask"]).all()
        assert batch["mask"][index].dtype == torch.int64
