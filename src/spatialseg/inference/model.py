"""A trained network for use: loaded from a run or a checkpoint, it takes images of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn

from spatialseg.conventions import check_cut
from spatialseg.data.files import read_image, rgb_of
from spatialseg.data.samples import Batch, PadToStride, evaluation_sample, evaluation_size
from spatialseg.inference.tiling import predict_tiled
from spatialseg.network import make_network, standardise
from spatialseg.run.checkpoints import Checkpoint, read_checkpoint
from spatialseg.run.folder import RunError, RunFolder, find_runs

Picture: TypeAlias = str | Path | Image.Image | NDArray[Any] | Tensor
"""An image: the path of a file, or in RGB a PIL image, an array (H, W, 3) or (H, W), a tensor (3, H, W) or (1, H, W).

Arrays and tensors are uint8 in [0, 255], or floating in [0, 1] and then rounded to 8 bits, as files have them.
"""

BAND = 2**24
"""How many probabilities are computed at once at an image's own size."""


@dataclass(frozen=True)
class Inference:
    """How images are predicted; the default is what the test of a run does.

    Args:
        flips: Directions in which images are mirrored as well, and in both if there are two; the logits are averaged.
        scales: Sizes at which images are predicted, as factors of the size of evaluation or of a tile; the logits are
            averaged.
        tile: Take images at their own size, in tiles of this side (pixels), instead of resizing them.
        overlap: What neighbouring tiles share, in pixels; a quarter of the tile by default.

    Raises:
        ValueError: A value is out of its range.
    """

    flips: tuple[Literal["horizontal", "vertical"], ...] = ()
    scales: tuple[float, ...] = (1.0,)
    tile: int | None = None
    overlap: int | None = None

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale <= 8 for scale in self.scales):
            raise ValueError(f"scales must be factors above 0, at most 8, got {self.scales}")
        if unknown := set(self.flips) - {"horizontal", "vertical"}:
            raise ValueError(f"flips must be 'horizontal' or 'vertical', got {', '.join(map(repr, sorted(unknown)))}")
        if self.tile is not None and self.tile < 1:
            raise ValueError(f"tile must be at least 1 pixel, got {self.tile}")
        if self.overlap is not None and not (self.tile and 0 <= self.overlap < self.tile):
            raise ValueError(f"overlap must be at least 0 and less than the tile ({self.tile}), got {self.overlap}")


DEFAULT = Inference()


@dataclass(frozen=True)
class Origin:
    """Where a network comes from.

    Args:
        checkpoint: The file.
        folder: The run's folder, if the file lies in one.
        data: Name of the data set that it was trained on.
        epoch: How many epochs it was trained.
    """

    checkpoint: Path
    folder: RunFolder | None
    data: str
    epoch: int

    @property
    def name(self) -> str:
        """What to call the network."""
        return f"{self.folder.experiment if self.folder else self.checkpoint.stem}_{self.data}"


class Model(nn.Module):
    """A trained network with all that its use takes: how images are made ready, and where maps are cut into masks.

    Args:
        settings: The network's: `classes`, `architecture`, `encoder`, `network_args` and perhaps `channels_last`.
        eval_size: Side to which images are resized.
        keep_aspect: Make only the long side `eval_size`, instead of stretching images to a square.
        stride: Images are filled up with grey to a multiple of this.
        class_names: A name per class, one for foreground.
        cut: Threshold of foreground; unused with several classes.
        precision: That of the run's evaluation, as the trainer calls it, such as `"bf16-mixed"`.
        origin: Where it comes from.

    Attributes:
        network: The network of segmentation-models-pytorch.
        mean: Of each channel, for RGB in [0, 1].
        std: The same.
        classes: Number of classes; 1 is foreground against background.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        settings: dict[str, Any],
        eval_size: int,
        keep_aspect: bool,
        stride: int,
        class_names: Sequence[str],
        cut: float,
        precision: str = "32-true",
        origin: Origin | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.classes: int = settings["classes"]
        self.network = make_network(
            settings["architecture"], settings["encoder"], None, self.classes, settings["network_args"]
        )
        for name in ("mean", "std"):
            self.register_buffer(name, torch.full((1, 3, 1, 1), 0.5))
        self.eval_size, self.keep_aspect, self.stride = eval_size, keep_aspect, stride
        self.class_names, self.cut, self.precision, self.origin = list(class_names), cut, precision, origin
        self.pad = PadToStride(stride)
        if settings.get("channels_last"):
            self.network.to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """Where the network is; `model.to(device)` moves it."""
        return self.mean.device

    @property
    def pixels_at_once(self) -> int:
        """How many pixels in a batch suit the device: on a CPU those whose features its caches hold."""
        return 2**18 if self.device.type == "cpu" else 2**21

    def forward(self, image: Tensor) -> Tensor:
        """Map a batch of RGB images (N, 3, H, W), sides multiples of the stride, to logits (N, classes, H, W).

        uint8 in [0, 255] or floating in [0, 1], as `SegmentationTask` has it.
        """
        scaled = standardise(image, self.mean, self.std, bool(self.settings.get("channels_last")))
        half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self.precision)
        if half is torch.float16 and self.device.type == "cpu":  # which does not compute with it
            half = None
        with torch.autocast(self.device.type, half, enabled=half is not None):
            logits: Tensor = self.network(scaled)
        return logits

    def probabilities(self, image: Picture, inference: Inference = DEFAULT) -> NDArray[np.float32]:
        """Predict one image.

        Args:
            image: A path, PIL image, array or tensor; see `Picture`.
            inference: Flips, scales and tiles.

        Returns:
            Probabilities in [0, 1] at the image's own size: of foreground, (H, W), or of each class, (classes, H, W),
            which then sum to 1.

        Raises:
            DataError: The file cannot be read.
            ValueError: The image has another shape, type or range.
        """
        pixels = as_pixels(image)
        found = np.empty((self.classes, *pixels.shape[-2:]), np.float32)
        for row, band in self.bands(pixels, inference):
            found[:, row : row + band.shape[1]] = band.numpy()
        return found[0] if self.classes == 1 else found

    def predict(self, image: Picture, cut: float | None = None, inference: Inference = DEFAULT) -> NDArray[np.uint8]:
        """Predict the mask of one image.

        Args:
            image: A path, PIL image, array or tensor; see `Picture`.
            cut: Foreground is where the probability reaches it, in [0, 1]; by default the cut that was best on the
                validation images of the run, `model.cut`. Several classes have none.
            inference: Flips, scales and tiles.

        Returns:
            The mask at the image's own size, (H, W): 1 is foreground and 0 background, or the index of the most
            probable class.

        Raises:
            DataError: The file cannot be read.
            ValueError: The image has another shape, type or range, or the cut is not in [0, 1].
        """
        if cut is not None:
            check_cut(cut)
        pixels = as_pixels(image)
        mask = np.empty(pixels.shape[-2:], np.uint8)
        for row, band in self.bands(pixels, inference):
            mask[row : row + band.shape[1]] = self.mask_of(band, cut).numpy()
        return mask

    def mask_of(self, probabilities: Tensor, cut: float | None = None) -> Tensor:
        """Turn probabilities (classes, H, W) into a mask, uint8 (H, W)."""
        if self.classes > 1:
            return probabilities.argmax(dim=0).byte()
        return (probabilities[0] >= (self.cut if cut is None else cut)).byte()

    def bands(self, image: Tensor, inference: Inference = DEFAULT) -> Iterator[tuple[int, Tensor]]:
        """Predict one image from top to bottom, without ever holding all of its probabilities.

        Args:
            image: uint8 (3, H, W).
            inference: Flips, scales and tiles.

        Yields:
            Number of the first row, and the probabilities (classes, rows, W), on the CPU.
        """
        if inference.tile is None:
            (logits,) = self.infer([self.prepare(image, inference)], inference)
            yield from self.native_bands(logits, (image.shape[-2], image.shape[-1]))
            return
        row = 0
        tile = -(-inference.tile // self.stride) * self.stride
        overlap = tile // 4 if inference.overlap is None else inference.overlap
        overlap = min(-(-overlap // self.stride) * self.stride, tile - self.stride)
        batch = max(1, self.pixels_at_once // tile**2)
        for band in predict_tiled(
            image, lambda tiles: self._of_tiles(tiles, inference), tile, overlap, self.stride, batch
        ):
            yield row, self._activate(band).cpu()
            row += band.shape[1]

    def prepare(self, image: Tensor, inference: Inference = DEFAULT) -> list[Batch]:
        """Resize an image, uint8 (3, H, W), as evaluation does it, to each of the scales."""
        return [evaluation_sample(image, self.size_at(scale), self.keep_aspect) for scale in inference.scales]

    @torch.inference_mode()
    def infer(self, images: Sequence[list[Batch]], inference: Inference = DEFAULT) -> list[Tensor]:
        """Run the network on images made ready by `prepare`.

        Returns:
            Of each image its logits, (classes, h, w), at the size of the first scale.
        """
        found: list[Tensor] = []
        for at_scale in zip(*images, strict=True):
            logits = self._flipped(self.pad(at_scale)["image"], inference)
            sizes = [sample["size"] for sample in at_scale]
            parts = [one[:, :height, :width] for one, (height, width) in zip(logits, sizes, strict=True)]
            if found:
                parts = [total + _resized(part, total.shape[-2:]) for total, part in zip(found, parts, strict=True)]
            found = parts
        return [total / len(inference.scales) for total in found]

    def native_bands(self, logits: Tensor, native: tuple[int, int]) -> Iterator[tuple[int, Tensor]]:
        """Bring logits (classes, h, w) to an image's own height and width, and yield its probabilities in bands.

        The bands of an image are what resizing it in one go gives, up to rounding.

        Yields:
            Number of the first row, and the probabilities (classes, rows, W), on the CPU.
        """
        height, width = native
        rows = max(1, BAND // (len(logits) * width))
        if rows >= height:
            yield 0, self._activate(_resized(logits, native)).cpu()
            return
        wide = _resized(logits, (logits.shape[1], width))
        for start in range(0, height, rows):
            place = torch.arange(start, min(start + rows, height), device=logits.device) + 0.5
            place = (place * (logits.shape[1] / height) - 0.5).clamp(0, logits.shape[1] - 1)
            above = place.long()
            below = (above + 1).clamp(max=logits.shape[1] - 1)
            yield start, self._activate(torch.lerp(wide[:, above], wide[:, below], (place - above)[:, None])).cpu()

    def canvas(self, native: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width that an image of native height and width has in the network."""
        height, width = evaluation_size(native, self.eval_size, self.keep_aspect)
        return -(-height // self.stride) * self.stride, -(-width // self.stride) * self.stride

    def size_at(self, scale: float) -> int:
        """Return the side of evaluation at a scale, a multiple of the stride if it is not the run's own."""
        return self.eval_size if scale == 1 else max(1, round(self.eval_size * scale / self.stride)) * self.stride

    def _activate(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.classes == 1 else logits.softmax(dim=0)

    @torch.inference_mode()
    def _of_tiles(self, tiles: Tensor, inference: Inference) -> Tensor:
        total: Tensor | None = None
        for scale in inference.scales:
            sides = [max(1, round(side * scale / self.stride)) * self.stride for side in tiles.shape[-2:]]
            scaled = tiles.to(self.device)
            if sides != list(tiles.shape[-2:]):
                scaled = F.interpolate(scaled.float(), sides, mode="bilinear", antialias=True) / 255
            logits = self._flipped(scaled, inference)
            if logits.shape[-2:] != tiles.shape[-2:]:
                logits = F.interpolate(logits, tiles.shape[-2:], mode="bilinear")
            total = logits if total is None else total + logits
        assert total is not None
        return total / len(inference.scales)

    def _flipped(self, images: Tensor, inference: Inference) -> Tensor:
        """Return logits, averaged over what is mirrored, float32."""
        images = images.to(self.device)
        sides = {"vertical": 2, "horizontal": 3}
        choices = [((), (sides[flip],)) for flip in dict.fromkeys(inference.flips)]
        mirrors = [sum(each, ()) for each in product(*choices)]
        logits = [self(images.flip(each)).flip(each) if each else self(images) for each in mirrors]
        return torch.stack([each.float() for each in logits]).mean(dim=0) if len(logits) > 1 else logits[0].float()


def _resized(logits: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(logits[None], tuple(size), mode="bilinear", align_corners=False)[0]


def as_pixels(image: Picture) -> Tensor:
    """Return an image as uint8 RGB, (3, H, W).

    Raises:
        DataError: The file cannot be read.
        ValueError: The image has another shape, type or range; see `Picture`.
    """
    if isinstance(image, str | Path):
        array = read_image(Path(image))
    elif isinstance(image, Image.Image):
        array = rgb_of(ImageOps.exif_transpose(image), "the image")
    else:
        array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
        if isinstance(image, Tensor) and array.ndim == 3:
            array = array.transpose(1, 2, 0)
        if array.ndim == 2:
            array = array[..., None]
        if array.ndim != 3 or array.shape[2] not in (1, 3) or not array.size:
            expected = "(3, H, W) or (1, H, W)" if isinstance(image, Tensor) else "(H, W, 3) or (H, W)"
            raise ValueError(f"an image has the shape {expected}, got {tuple(image.shape)}; batches go image by image")
        if np.issubdtype(array.dtype, np.floating):
            if not (array.min() >= 0 and array.max() <= 1):  # not a number is neither
                raise ValueError(f"a floating-point image is in [0, 1], got {array.min():g} to {array.max():g}")
            array = (array * 255).round().astype(np.uint8)
        elif array.dtype != np.uint8:
            raise ValueError(f"an image is uint8, or floating in [0, 1], got {array.dtype}")
        array = np.broadcast_to(array, (*array.shape[:2], 3))
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def load(run: str | Path, runs: str | Path = "runs", device: str | torch.device | None = None) -> Model:
    """Load a trained network, ready to be used.

        model = spatialseg.load("saliency_wfb/ecssd")
        mask = model.predict("photo.jpg")                 # uint8 (H, W)
        probability = model.probabilities("photo.jpg")    # float32 (H, W), in [0, 1]

    Args:
        run: A run folder or the name of a run, `saliency_wfb/ecssd` or `saliency_wfb/ecssd/seed3`: its best checkpoint,
            of several seeds the newest; or the path of a checkpoint.
        runs: The folder of all runs.
        device: Where to compute; by default on the first CUDA device if there is one.

    Returns:
        The network, with the preprocessing of its evaluation and, of a run, the cut that was best on the validation
        images, and its precision; of a checkpoint by itself the cut is 0.5, the precision float32.

    Raises:
        RunError: There is no such run or checkpoint, or it does not say how its images are made ready.
    """
    path, folder = _find(run, runs)
    checkpoint = read_checkpoint(path)
    summary = folder.read_summary() if folder and folder.summary.is_file() else {}
    data = _data_of(checkpoint, folder, path)
    classes = checkpoint["hyper_parameters"]["classes"]
    model = Model(
        checkpoint["hyper_parameters"],
        data["eval_size"] or data["size"],
        data["keep_aspect"],
        data["stride"],
        data.get("class_names") or (["foreground"] if classes == 1 else [f"class {index}" for index in range(classes)]),
        folder.cut(path) if folder else 0.5,
        summary.get("precision", "32-true"),
        Origin(path, folder, data.get("name") or summary.get("data", "unknown data"), checkpoint["epoch"] + 1),
    )
    own = model.state_dict().keys()
    model.load_state_dict({name: value for name, value in checkpoint["state_dict"].items() if name in own})
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def _find(run: str | Path, runs: str | Path) -> tuple[Path, RunFolder | None]:
    """Return a checkpoint, and the run folder that it belongs to, if any."""
    path = Path(run)
    if path.suffix == ".ckpt":
        return path, RunFolder.around(path)
    found = max(find_runs(run, runs), key=lambda each: each.time)
    path = found.chosen
    if not path.is_file():
        raise RunError(f"{found} has no checkpoint {path.relative_to(found.path)}; give another run, or a checkpoint")
    return path, found


def _data_of(checkpoint: Checkpoint, folder: RunFolder | None, path: Path) -> dict[str, Any]:
    """Return how images are made ready: as the checkpoint says, or the configuration beside an older one."""
    if data := checkpoint.get("SegmentationDataModule"):
        return dict(data)
    if folder:
        return dict(folder.read_config()["data"])
    raise RunError(f"{path} does not say how its images are made ready; put it back into the folder of its run")
