"""Networks handed on: what reads them back knows nothing of this package and gives the same."""

import base64
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard
from PIL import Image

import spatialseg
from hub import hub
from spatialseg.cli import main
from trained import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "runs"
    make_run(folder, size=96)
    make_run(folder, classes=4, name="kinds")
    make_run(folder, name="aspect", keep_aspect=True, size=80)
    return folder


@pytest.fixture(scope="module")
def photographs():
    """Return photographs of several sizes, also upright and smaller than the network wants."""
    data = pytest.importorskip("skimage.data")
    found = [data.astronaut(), data.coffee()[:, :300], data.chelsea()[:60, :70]]
    return [np.ascontiguousarray(image) for image in found]


def export(runs, *arguments, run="tiny/shapes"):
    main(["export", run, *map(str, arguments), "--runs", str(runs)])


def files_of(images, folder):
    paths = [folder / f"{index}.png" for index in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path)
    return paths


def differs(found, expected):
    """Say by how much: predict rounds the resized image to 8 bits, a graph does not."""
    return np.abs(np.asarray(found) - expected).max(), np.abs(np.asarray(found) - expected).mean()


def test_onnx_takes_images_of_any_size_in_batches(runs, photographs, tmp_path, capsys):
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "network.onnx"
    export(runs, "--out", path, "--check", *files_of(photographs, tmp_path))
    said = capsys.readouterr().out
    assert float(re.search(r"probabilities are (\S+) at most", said)[1]) <= 1e-4 and f"Written: {path}" in said
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    told = json.loads(session.get_modelmeta().custom_metadata_map["spatialseg"])
    assert (told["cut"], told["classes"], told["eval_size"]) == (0.35, ["salient"], 96)
    model = spatialseg.load("tiny/shapes", runs)
    for image in photographs:
        (found,) = session.run(None, {"image": np.stack([image, image[::-1]]).transpose(0, 3, 1, 2)})
        assert found.shape == (2, 1, *image.shape[:2]) and found.std() > 0.01
        most, mean = differs(found[0, 0], model.probabilities(image))
        assert most < 0.05 and mean < 2e-3


def test_a_torch_program_takes_images_of_any_size_in_batches(runs, photographs, tmp_path):
    path = tmp_path / "network.pt2"
    export(runs, "--format", "torch", "--out", path, "--check", *files_of(photographs, tmp_path), run="kinds/shapes")
    told = {"spatialseg.json": ""}
    program = torch.export.load(path, extra_files=told).module()
    assert json.loads(told["spatialseg.json"])["classes"][3] == "kind 3"
    model = spatialseg.load("kinds/shapes", runs)
    for image in photographs:
        batch = torch.from_numpy(image).permute(2, 0, 1).expand(3, -1, -1, -1)
        with torch.inference_mode():
            found = program(batch)
        assert found.shape == (3, 4, *image.shape[:2])
        assert differs(found[0], model.probabilities(image))[1] < 2e-3


def test_the_card_of_smp_shows_how_to_predict_without_this_package(runs, photographs, tmp_path):
    Image.fromarray(photographs[1]).save(tmp_path / "photo.jpg", quality=95)
    code = "import sys\nsys.modules['spatialseg'] = None  # whoever imports it fails\nimport numpy as np\n"
    for run in ("tiny", "kinds", "aspect"):
        folder = tmp_path / run
        export(runs, "--format", "smp", "--out", folder, run=f"{run}/shapes")
        assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
        (example,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
        code += example.replace("FOLDER", str(folder))
        code += f"np.savez('{run}.npz', probability=probability, mask=mask)\n"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    for run in ("tiny", "kinds", "aspect"):
        found, model = np.load(tmp_path / f"{run}.npz"), spatialseg.load(f"{run}/shapes", runs)
        np.testing.assert_allclose(found["probability"], model.probabilities(tmp_path / "photo.jpg"), atol=1e-5)
        assert (found["mask"] == model.predict(tmp_path / "photo.jpg")).mean() > 0.9999


def test_the_tool_of_the_hub_uploads_the_folder(runs, tmp_path):
    export(runs, "--format", "smp", "--out", tmp_path / "network")
    with hub() as server:
        HfApi(endpoint=server.url, token="hf_nothing").upload_folder(repo_id="me/net", folder_path=tmp_path / "network")
    sent = [json.loads(line) for line in server.posted["/api/models/me/net/commit/main"].splitlines()]
    files = {
        each["value"]["path"]: base64.b64decode(each["value"]["content"]) for each in sent if each["key"] == "file"
    }
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "network").iterdir()}
    card = json.loads(server.posted["/api/validate-yaml"])["content"]  # what the hub would judge
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "segmentation-models-pytorch"


def test_the_card_tells_of_the_run(runs, tmp_path):
    run = make_run(tmp_path / "runs", name="told")
    summary = run.read_summary() | {"measures": {"test/weighted_f": 0.8234, "test/mae": None}, "command": "make it so"}
    run.write_summary(summary)
    config = run.read_config()
    config["data"]["source"] = {"class_path": "spatialseg.data.FolderPairs", "init_args": {"root": "photos"}}
    run.config.write_text(json.dumps(config))
    export(tmp_path / "runs", "--format", "smp", "--out", tmp_path / "card", run=str(run))
    card = ModelCard.load(tmp_path / "card" / "README.md")
    assert card.data.library_name == "segmentation-models-pytorch" and card.data.pipeline_tag == "image-segmentation"
    assert card.data.license == "other" and card.data.license_name
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("weighted_f", 0.8234, "shapes")
    for said in (
        "1·wfb",
        "`make it so`",
        "| Fw ↑ | 0.8234 |",
        "root photos",
        "own terms apply",
        "mask = probability >=",
    ):
        assert said in card.text
    config["data"]["source"] = {"class_path": "spatialseg.data.ProceduralScenes"}
    run.config.write_text(json.dumps(config))
    export(tmp_path / "runs", "--format", "smp", "--out", tmp_path / "card", "--overwrite", run=str(run))
    assert ModelCard.load(tmp_path / "card" / "README.md").data.license == "apache-2.0"
    export(tmp_path / "runs", "--format", "smp", "--out", tmp_path / "mine", "--license", "mit", run=str(run))
    assert ModelCard.load(tmp_path / "mine" / "README.md").data.license == "mit"


def test_what_cannot_be_exported_is_said_in_a_line(runs, tmp_path, monkeypatch, capsys):
    def fails(*arguments, run="tiny/shapes"):
        with pytest.raises(SystemExit) as stop:
            export(runs, *arguments, run=run)
        assert stop.value.code == 2
        return capsys.readouterr().err

    there = tmp_path / "there.onnx"
    there.write_bytes(b"mine")
    assert "is there already" in fails("--out", there) and there.read_bytes() == b"mine"
    assert "keep_aspect" in fails("--out", tmp_path / "new.pt2", "--format", "torch", run="aspect/shapes")
    assert "is a file; --format smp writes a folder" in fails("--out", there, "--format", "smp", "--overwrite")
    assert there.read_bytes() == b"mine"
    assert "is a folder; --format onnx writes a file" in fails("--out", tmp_path, "--overwrite")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'spatialseg[onnx]'" in fails("--out", tmp_path / "new.onnx")
    monkeypatch.setattr("spatialseg.export.TOLERANCE", -1.0)
    assert "differs by" in fails("--out", tmp_path / "new.pt2", "--format", "torch")
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]


def test_only_an_earlier_export_is_replaced(runs, tmp_path, capsys):
    def refused(found):
        with pytest.raises(SystemExit) as stop:
            export(runs, *command, run="kinds/shapes")
        said = capsys.readouterr().err
        return stop.value.code == 2 and f"{folder} holds {found}; --overwrite" in said and said.count("\n") == 1

    folder = tmp_path / "network"
    command = ("--format", "smp", "--out", folder, "--overwrite")
    folder.mkdir()
    export(runs, *command)
    weights, card = (folder / "model.safetensors").read_bytes(), (folder / "README.md").read_text()
    (folder / "README.md").write_text("old")
    export(runs, *command)
    assert (folder / "README.md").read_text() == card
    (folder / "keepme").mkdir()
    (folder / "keepme" / "thesis.txt").write_bytes(b"mine")
    assert refused("1: keepme") and (folder / "keepme" / "thesis.txt").read_bytes() == b"mine"
    assert (folder / "model.safetensors").read_bytes() == weights
    shutil.rmtree(folder / "keepme")
    (folder / "config.json").unlink()
    assert refused("2: README.md, model.safetensors") and [path.name for path in tmp_path.iterdir()] == ["network"]
