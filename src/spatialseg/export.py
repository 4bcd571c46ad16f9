"""Hand a trained network on: `python -m spatialseg export RUN --format onnx | torch | smp`."""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spatialseg.data.files import few
from spatialseg.data.source import DataError
from spatialseg.extras import import_extra
from spatialseg.hints import command_parser
from spatialseg.run.folder import RunError

if TYPE_CHECKING:  # takes seconds, and `--help` needs none of it
    from torch import Tensor, nn

    from spatialseg.inference.model import Model, Picture

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "smp": ""}
TOLERANCE = 1e-4
"""How far a probability of an exported network may be from what it was exported from."""
OPSET = 18
"""Of ONNX; the first whose resizing can do without aliasing."""


class ExportError(ValueError):
    """A network cannot be exported; the message says why and what to do."""


@dataclass(frozen=True)
class Check:
    """An exported network beside the one that it was made from.

    Args:
        images: How many images were predicted with both.
        difference: Largest difference of a probability from the same graph in PyTorch.
        from_predict: Largest and mean difference from `Model.probabilities`, which rounds resized images to 8 bits.
        seconds: Median time of an image, of the exported network and of the same graph in PyTorch.
    """

    images: int
    difference: float
    from_predict: tuple[float, float]
    seconds: tuple[float, float]

    def describe(self, what: str) -> str:
        """Say it in a line."""
        ours, theirs = (1e3 * each for each in self.seconds)
        return (
            f"checked on {self.images} images: probabilities are {self.difference:.1e} at most from PyTorch's, "
            f"{self.from_predict[1]:.1e} on average ({self.from_predict[0]:.1e} at most) from those of predict, which "
            f"rounds the resized image to 8 bits; {ours:.1f} ms an image in {what}, {theirs:.1f} ms in PyTorch"
        )


def whole_graph(model: Model) -> nn.Module:
    """Return a module of all that happens to an image: uint8 RGB (N, 3, H, W) → probabilities (N, classes, H, W).

    Images are resized, scaled and standardised inside, and probabilities come at the images' own size.

    Raises:
        ExportError: The network wants images that keep their aspect, whose size in the network a graph would have to
            work out from theirs.
    """
    import torch
    import torch.nn.functional as F

    from spatialseg.data.samples import GREY
    from spatialseg.network import standardise

    if model.keep_aspect:
        raise ExportError(
            "the network was evaluated with keep_aspect, and a graph cannot choose the size of its layers by the "
            "image; use --format smp, whose card says how images are made ready"
        )

    class WholeGraph(torch.nn.Module):
        mean: Tensor
        std: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.network = copy.deepcopy(model.network).to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            self.register_buffer("mean", model.mean.cpu())
            self.register_buffer("std", model.std.cpu())

        def forward(self, image: Tensor) -> Tensor:
            side = (model.eval_size, model.eval_size)
            small = F.interpolate(image.float(), side, mode="bilinear", antialias=True)
            small = F.pad(small, (0, -side[1] % model.stride, 0, -side[0] % model.stride), value=float(GREY))
            logits = self.network(standardise(small / 255, self.mean, self.std))[..., : side[0], : side[1]]
            logits = F.interpolate(logits, image.shape[-2:], mode="bilinear")
            probabilities: Tensor = logits.sigmoid() if model.classes == 1 else logits.softmax(dim=1)
            return probabilities

    return WholeGraph().eval()


def facts(model: Model) -> dict[str, Any]:
    """Return what whoever uses the network has to know, as JSON has it."""
    return {
        "classes": model.class_names,
        "cut": model.cut if model.classes == 1 else None,
        "eval_size": model.eval_size,
        "keep_aspect": model.keep_aspect,
        "stride": model.stride,
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
    }


def export_onnx(model: Model, path: Path, images: Sequence[Picture]) -> Check:
    """Write an ONNX graph, and check it with ONNX Runtime.

    Args:
        model: What `spatialseg.load` returns.
        path: The file. Input `image`, uint8 RGB (N, 3, H, W), any N, H and W; output `probability`, float32
            (N, classes, H, W). The graph's metadata `spatialseg` holds `facts` as JSON.
        images: To check it on.

    Raises:
        ModuleNotFoundError: The libraries of the extra `onnx` are not there.
        ExportError: The check fails.
    """
    runtime, *_ = (import_extra(name) for name in ("onnxruntime", "onnx", "onnxscript"))
    import torch

    module = whole_graph(model)
    program = torch.onnx.export(
        _program(module),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["probability"],
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props["spatialseg"] = json.dumps(facts(model))
    program.save(str(path), external_data=False)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return check(lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0]), module, model, images)


def export_torch(model: Model, path: Path, images: Sequence[Picture]) -> Check:
    """Write a program of `torch.export`, which `torch.export.load(path).module()` runs, and check what is read back.

    Args:
        model: What `spatialseg.load` returns.
        path: The file; input and output are those of `export_onnx`. Its extra file `spatialseg.json` holds `facts`.
        images: To check it on.

    Raises:
        ExportError: The check fails.
    """
    import torch

    module = whole_graph(model)
    torch.export.save(_program(module), path, extra_files={"spatialseg.json": json.dumps(facts(model))})
    return check(torch.export.load(path).module(), module, model, images)


def export_smp(model: Model, folder: Path, licence: str | None = None) -> None:
    """Write the folder that `segmentation_models_pytorch.from_pretrained` loads, with a model card.

    Args:
        model: What `spatialseg.load` returns.
        folder: Made if it is not there. Gets weights, configuration and `README.md`, the card.
        licence: Identifier of the licence of the weights, as the hub knows it.
    """
    from spatialseg.inference.card import model_card

    model.network.save_pretrained(folder)  # type: ignore[operator]
    model_card(model, licence).save(folder / "README.md")


def check(run: Callable[[Tensor], Tensor], module: nn.Module, model: Model, images: Sequence[Picture]) -> Check:
    """Predict images with an exported network, with what it was exported from, and with the model.

    Args:
        run: The exported network: uint8 (N, 3, H, W) → probabilities (N, classes, H, W).
        module: What `whole_graph` returned.
        model: The model.
        images: Of any sizes; the first goes in a batch of two as well.

    Raises:
        ExportError: A probability differs by more than `TOLERANCE`.
    """
    import numpy as np
    import torch

    from spatialseg.inference.model import as_pixels

    differences, from_predict = [], []
    ours: list[float] = []
    theirs: list[float] = []
    with torch.inference_mode():
        for index, image in enumerate(images):
            pixels = as_pixels(image)[None]
            found, expected = run(pixels), module(pixels)
            differences.append((found - expected).abs().max().item())
            from_predict.append(np.abs(found[0].numpy() - model.probabilities(image).reshape(found[0].shape)))
            for function, times in ((run, ours), (module, theirs)):
                start = time.perf_counter()
                function(pixels)
                times.append(time.perf_counter() - start)
            if index == 0:
                pair = torch.cat([pixels, pixels.flip(3)])
                differences.append((run(pair) - module(pair)).abs().max().item())
    if max(differences) > TOLERANCE:
        raise ExportError(f"the exported network differs by {max(differences):.1e}, more than {TOLERANCE:g}")
    away = (float(max(each.max() for each in from_predict)), float(np.mean([each.mean() for each in from_predict])))
    return Check(len(images), max(differences), away, (statistics.median(ours), statistics.median(theirs)))


def _program(module: nn.Module) -> Any:  # noqa: ANN401 - an ExportedProgram
    import torch

    example = torch.zeros(2, 3, 96, 128, dtype=torch.uint8)
    sides = {2: torch.export.Dim("height", min=2), 3: torch.export.Dim("width", min=2)}
    return torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch"), **sides},))


def _clear(out: Path, new: Path) -> None:
    """Remove an earlier export, the folder `out`, if there is one, to make way for `new`.

    Raises:
        ExportError: The folder holds anything else; nothing of it is removed.
    """
    if not out.exists():
        return
    there, exported = ({path.name for path in folder.iterdir()} for folder in (out, new))
    if there and there != exported:
        found, wanted = few(sorted(there - exported or there)), ", ".join(sorted(exported))
        raise ExportError(
            f"{out} holds {found}; --overwrite replaces a folder of {wanted} and nothing else, so choose another --out"
        )
    shutil.rmtree(out)


def _drawn_images() -> list[Picture]:
    """Return scenes of several sizes, for whoever gives no photographs."""
    from spatialseg.data import ProceduralScenes

    return [ProceduralScenes(size=size).draw("test", index)[0] for index, size in enumerate((160, 97, 301))]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "export",
        "Write a trained network for use elsewhere: an ONNX graph or a torch.export program that takes "
        "images as they are, or the folder that segmentation-models-pytorch loads and the Hugging Face hub takes.",
        "saliency_wfb/ecssd --format onnx --out saliency.onnx",
    )
    parser.add_argument("run", help="run folder, EXPERIMENT/DATA, or a checkpoint")
    parser.add_argument("--format", choices=SUFFIXES, default="onnx", help="default: onnx")
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="file, or folder of smp (default: named after the run)"
    )
    parser.add_argument(
        "--check", nargs="+", metavar="IMAGE", help="images to compare the exported network on (default: drawn scenes)"
    )
    parser.add_argument("--license", help="of the weights, e.g. apache-2.0, for the model card of smp")
    parser.add_argument("--overwrite", action="store_true", help="replace a file, or a folder that an export wrote")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    return parser


def main(args: Sequence[str]) -> None:
    """Run `spatialseg export`.

    Raises:
        SystemExit: With status 2 when the network cannot be exported.
    """
    parser = _parser()
    options = parser.parse_args(args)
    try:
        from spatialseg.inference.model import load

        model = load(options.run, options.runs, "cpu")
        assert model.origin
        out: Path = options.out or Path(f"{model.origin.name}{SUFFIXES[options.format]}")
        if out.exists() and out.is_dir() != (options.format == "smp"):
            found, wanted = ("folder", "file") if out.is_dir() else ("file", "folder")
            raise ExportError(f"{out} is a {found}; --format {options.format} writes a {wanted}; choose another --out")
        if out.exists() and not options.overwrite:
            raise ExportError(f"{out} is there already; choose another place with --out, or --overwrite")
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = out.with_name(f".part_{out.name}")  # nothing that failed its check is left under the name
        try:
            if options.format == "smp":
                export_smp(model, beside, options.license)
                _clear(out, beside)
            else:
                images = options.check or _drawn_images()
                export = export_onnx if options.format == "onnx" else export_torch
                what = "ONNX Runtime" if options.format == "onnx" else "torch.export"
                print(export(model, beside, images).describe(what))
            beside.replace(out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            beside.unlink(missing_ok=True)
    except (ExportError, RunError, DataError, ValueError, OSError) as error:
        parser.exit(2, f"spatialseg export: {error}\n")
    print(f"Written: {out}")
    if options.format == "smp":
        print(f"  card     {out / 'README.md'}\n  upload   hf upload OWNER/NAME {out}")
