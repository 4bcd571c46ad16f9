"""What a trained network's README says: the model card of the Hugging Face hub, its template filled from the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from spatialseg.metrics import Conventions, available_measures
from spatialseg.report.table import Cell, Column, Table

if TYPE_CHECKING:
    from spatialseg.inference.model import Model

TEMPLATE = Path(__file__).with_name("card.md")


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
    drawn = str((config["data"].get("source") or {}).get("class_path", "")).endswith("ProceduralScenes")
    scored = summary.get("measures") or {}
    measures = {key[5:]: value for key, value in scored.items() if key.startswith("test/") and value is not None}
    card_data = ModelCardData(
        library_name="segmentation-models-pytorch",
        pipeline_tag="image-segmentation",
        tags=["segmentation-models-pytorch", "pytorch", *(["saliency"] if model.classes == 1 else [])],
        license=licence or ("apache-2.0" if drawn else "other"),
        license_name=None if licence or drawn else "terms-of-the-training-data",
        model_name=model.origin.name,
        eval_results=[
            EvalResult("image-segmentation", data, data, key, value, dataset_split="test")
            for key, value in measures.items()
        ],
    )
    what = "foreground against background" if model.classes == 1 else f"{model.classes} classes"
    card: ModelCard = ModelCard.from_template(
        card_data,
        str(TEMPLATE),
        name=model.origin.name,
        model=model,
        network=model.settings,
        mean=model.mean.flatten().tolist(),
        std=model.std.flatten().tolist(),
        what=f"{what} ({', '.join(model.class_names)})",
        training=_training(model, summary, config),
        measures=_measures(model, measures) if measures else "",
        data=data,
        drawn=drawn,
    )
    return card


def _training(model: Model, summary: dict[str, Any], config: dict[str, Any]) -> dict[str, str | int]:
    """Return what is known of the training."""
    assert model.origin
    source = config["data"].get("source") or {}
    given = [f"{key} {value}" for key, value in (source.get("init_args") or {}).items() if key != "class_names"]
    weights = str((config.get("model") or {}).get("encoder_weights"))
    terms = (
        f"{term['weight']:g}·{term['name']}" + (f" {term['args']}" if term["args"] else "")
        for term in model.settings["loss"]
    )
    known = {
        "data": f"{model.origin.data}" + (f" ({source['class_path']}: {', '.join(given)})" if source else ""),
        "encoder's first weights": {"bundled": "ImageNet (bundled)"}.get(weights, weights),
        "loss": " + ".join(terms),
        "epochs of these weights": model.origin.epoch,
        "seed": summary.get("seed"),
        "command": f"`{summary['command']}`" if "command" in summary else None,
        "commit": summary.get("commit"),
        "machine": summary.get("machine"),
        "versions": ", ".join(f"{name} {version}" for name, version in summary.get("versions", {}).items()),
    }
    return {name: value for name, value in known.items() if value not in (None, "")}


def _measures(model: Model, measures: dict[str, float]) -> str:
    """Return the measures as Markdown, and how they were taken."""
    assert model.origin and model.origin.folder
    known, caption = available_measures(further=True), ""
    if model.origin.folder.images.is_file():
        said = model.origin.folder.scores().conventions
        conventions = Conventions(**{**said, "cuts": tuple(said.get("cuts", ()))})
        caption = f"{conventions.describe()} All at the images' own size."
    rows: list[dict[str, Cell]] = [
        {"measure": known[key].describe() if key in known else key, "value": value} for key, value in measures.items()
    ]
    return Table([Column("measure", "test images"), Column("value", "value")], rows, caption=caption).markdown()
