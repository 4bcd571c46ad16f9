"""What a trained network's README says: the model card of the Hugging Face hub, filled from the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from spatialseg.metrics import Conventions, available_measures

if TYPE_CHECKING:
    from spatialseg.inference.model import Model


def model_card(model: Model, licence: str | None = None) -> ModelCard:
    """Write the card of a network: use, preprocessing, training, measures with their conventions, licence.

    Args:
        model: What `spatialseg.load` returns; of a run, for a checkpoint alone knows no measures.
        licence: Identifier of the licence of the weights, as the hub knows it; by default Apache-2.0 for networks
            trained on drawn scenes, otherwise `other`, for the data have terms of their own.
    """
    assert model.origin
    folder, data = model.origin.folder, model.origin.data
    summary = folder.read_summary() if folder and folder.summary.is_file() else {}
    config = folder.read_config() if folder else {"data": {}}
    source = config["data"].get("source") or {}
    drawn = str(source.get("class_path", "")).endswith("ProceduralScenes")
    name = f"{folder.experiment if folder else model.origin.checkpoint.stem}_{data}"
    scored = summary.get("measures") or {}
    measures = {key[5:]: value for key, value in scored.items() if key.startswith("test/") and value is not None}
    card_data = ModelCardData(
        library_name="segmentation-models-pytorch",
        pipeline_tag="image-segmentation",
        tags=["segmentation-models-pytorch", "pytorch", *(["saliency"] if model.classes == 1 else [])],
        license=licence or ("apache-2.0" if drawn else "other"),
        license_name=None if licence or drawn else "terms-of-the-training-data",
        model_name=name,
        eval_results=[
            EvalResult("image-segmentation", data, data, key, value, dataset_split="test")
            for key, value in measures.items()
        ],
    )
    begun = (config.get("model") or {}).get("encoder_weights")
    loss = " + ".join(
        f"{term['weight']:g}·{term['name']}" + (f" {term['args']}" if term["args"] else "")
        for term in model.settings["loss"]
    )
    what = "foreground against background" if model.classes == 1 else f"{model.classes} classes"
    sections = [
        f"---\n{card_data.to_yaml()}\n---\n\n# {name}\n\n{model.settings['architecture']} with the encoder "
        f"{model.settings['encoder']} for {what} ({', '.join(model.class_names)}), trained with "
        "[spatialseg](https://github.com/spatialseg/spatialseg).",
        f"## Use\n\nWith segmentation-models-pytorch, torchvision and Pillow alone; put the folder or the name on the "
        f"hub in place of `FOLDER`:\n\n```python\n{usage(model)}```",
        "## Training\n\n"
        + "\n".join(f"- {key}: {value}" for key, value in _training(model, summary, source, loss, begun)),
    ]
    if measures:
        sections.append(f"## Measures\n\n{_table(model, measures)}")
    terms = "The data are drawn from a seed and have no terms of their own."
    if not drawn:
        terms = f"The weights were trained on {data}, whose own terms apply to what may be done with them."
    sections.append(f"## Licence\n\nThe code is under Apache-2.0. {terms}")
    return ModelCard("\n\n".join(sections) + "\n")


def usage(model: Model) -> str:
    """Return the lines of Python that predict one photograph without this package, exactly as it does."""
    mean, std = (", ".join(f"{value:g}" for value in each.flatten().tolist()) for each in (model.mean, model.std))
    size = f"size = [{model.eval_size}, {model.eval_size}]"
    if model.keep_aspect:
        size = f"size = [max(1, round(side * {model.eval_size} / max(photo.shape[1:]))) for side in photo.shape[1:]]"
    if model.classes == 1:
        ends = ["probability = logits.sigmoid()[0, 0]  # (H, W), in [0, 1]", f"mask = probability >= {model.cut:g}"]
    else:
        ends = [
            "probability = logits.softmax(dim=1)[0]  # (classes, H, W), in [0, 1]",
            "mask = probability.argmax(dim=0)",
        ]
    return "\n".join(
        [
            "import segmentation_models_pytorch as smp",
            "import torch",
            "import torch.nn.functional as F",
            "from PIL import Image",
            "from torchvision.transforms.v2.functional import pil_to_tensor, resize",
            "",
            'network = smp.from_pretrained("FOLDER").eval()',
            'photo = pil_to_tensor(Image.open("photo.jpg").convert("RGB"))  # uint8 (3, H, W)',
            size,
            "image = resize(photo, size, antialias=True)",
            f"below, right = (-side % {model.stride} for side in size)",
            "image = F.pad(image, (0, right, 0, below), value=128)[None] / 255",
            f"mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in ([{mean}], [{std}]))",
            "with torch.inference_mode():",
            "    logits = network((image - mean) / std)[:, :, : size[0], : size[1]]",
            '    logits = F.interpolate(logits, photo.shape[1:], mode="bilinear")',
            *ends,
            "",
        ]
    )


def _training(
    model: Model, summary: dict[str, Any], source: dict[str, Any], loss: str, encoder_weights: str | None
) -> list[tuple[str, str | int | float]]:
    """Return what is known of the training, line by line."""
    assert model.origin
    given = ", ".join(
        f"{key} {value}" for key, value in (source.get("init_args") or {}).items() if key != "class_names"
    )
    lines: list[tuple[str, str | int | float]] = [
        ("data", f"{model.origin.data}" + (f" ({source['class_path']}: {given})" if source else "")),
        ("encoder's first weights", {"bundled": "ImageNet (bundled)"}.get(str(encoder_weights), str(encoder_weights))),
        ("loss", loss),
        ("epochs of these weights", model.origin.epoch),
    ]
    for key in ("seed", "command", "commit", "machine"):
        if summary.get(key) is not None:
            lines.append((key, f"`{summary[key]}`" if key == "command" else summary[key]))
    if versions := summary.get("versions"):
        lines.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return lines


def _table(model: Model, measures: dict[str, float]) -> str:
    """Return the measures as Markdown, and how they were taken."""
    assert model.origin and model.origin.folder
    known = available_measures(further=True)
    rows = [f"| {known[key].describe() if key in known else key} | {value:.4f} |" for key, value in measures.items()]
    text = "\n".join(["| test images | value |", "|---|---:|", *rows])
    if not model.origin.folder.images.is_file():
        return text
    said = model.origin.folder.scores().conventions
    conventions = Conventions(**{**said, "cuts": tuple(said.get("cuts", ()))})
    return f"{text}\n\n{conventions.describe()} All at the images' own size."
