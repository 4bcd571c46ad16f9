"""What W&B holds of a run, read back from its files by its own tools; and that none of its failures matters."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import wandb
import yaml
from PIL import Image
from small_runs import EXPERIMENTS, ROOT, configs, fit, runs_below
from stopping import StopOnce
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from spatialseg.cli import main
from spatialseg.report.sheet import Photograph
from spatialseg.run.folder import RunFolder
from spatialseg.run.loggers import WandbMirror, finish_wandb
from spatialseg.run.media import thumbnails, validation_panels

HERE = Path(__file__).parent
SWEEPS = sorted((ROOT / "experiments" / "sweeps").glob("*.yaml"))
TWO_TERMS = "--model.loss=[{name: wfb, args: {beta2: 0.3}}, {name: bce, weight: 0.5}]"


def inspect(path: Path, *arguments: str) -> list[dict]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *arguments, str(path)]
    shown = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return [json.loads(shown)] if arguments else [json.loads(line) for line in shown.splitlines()]


def history(run: RunFolder) -> list[dict]:
    return [record["history"]["item"] for record in inspect(run.wandb) if record["type"] == "history"]


@pytest.fixture(scope="module")
def mirrored(overlay, tmp_path_factory) -> RunFolder:
    return fit(EXPERIMENTS[0], overlay, tmp_path_factory.mktemp("mirrored") / "runs", TWO_TERMS)[0]


@pytest.fixture(scope="module")
def held(mirrored) -> dict:
    return inspect(mirrored.wandb, "--summary")[0]


def test_all_runs_share_a_folder_and_are_told_apart(mirrored, held):
    assert mirrored.wandb.parent == mirrored.runs / "wandb"
    (begun,) = (record["run"] for record in inspect(mirrored.wandb) if record["type"] == "run")
    experiment = EXPERIMENTS[0]
    assert begun["run_group"] == f"{experiment}/shapes" and begun["job_type"] == "train"
    assert set(held["tags"]) == {experiment, "shapes", "seed3"}
    assert held["run_id"] == mirrored.wandb_id.read_text()
    assert held["state"] == "finished" and held["exit_code"] == 0


def test_the_configuration_is_that_of_the_run_with_what_to_filter_by(mirrored, held):
    config = held["config"]
    assert {name: config.pop(name) for name in ("seed", "dataset")} == {"seed": 3, "dataset": "shapes"}
    loss = config.pop("loss")
    assert loss["wfb"]["beta2"] == 0.3 and loss["wfb"]["weight"] == 1 and loss["wfb"]["dependency"] == "local"
    assert loss["bce"]["weight"] == 0.5
    assert config == mirrored.read_config()


def test_validation_goes_over_epochs_training_over_steps_and_the_best_value_ranks(mirrored, held):
    rows = history(mirrored)
    for name, better in (("val/weighted_f", max), ("val/mae", min), ("val/loss", min), ("val/loss/bce", min)):
        values = {row["epoch"]: row[name] for row in rows if name in row}
        assert list(values) == [0, 1]
        assert held["summary"][name] == {better.__name__: pytest.approx(better(values.values()))}
    metrics = [record["metric"] for record in inspect(mirrored.wandb) if record["type"] == "metric"]
    over = {metric.get("name") or metric["glob_name"]: metric.get("step_metric") for metric in metrics}
    assert over["val/weighted_f"] == over["train/*"] == "epoch" and over["*"] == "trainer/global_step"

    steps = [row for row in rows if "step/loss" in row]
    assert [row["trainer/global_step"] for row in steps] == [0, 1, 2, 3]
    for row in steps:
        assert row["step/loss"] == pytest.approx(row["step/loss/wfb"] + 0.5 * row["step/loss/bce"], rel=1e-5)
        assert row["step/gradient_norm"] > 0 and row["step/images_per_second"] > 0
        assert 0.1 < row["step/peak_memory_gb"] < 100
    assert {"weight/bce", "lr-AdamW/encoder", "test/weighted_f"} <= held["summary"].keys()


def test_validation_images_carry_masks_and_their_weighted_f(mirrored, held):
    shown = held["summary"]["pictures/predictions"]
    assert shown["count"] == held["summary"]["pictures/weighted_error"]["count"] == 3
    anatomy = held["summary"]["pictures/anatomy"]
    assert anatomy["caption"] == "val_0000" and (mirrored.wandb / "files" / anatomy["path"]).stat().st_size < 200_000
    media = [mirrored.wandb / "files" / name for name in shown["filenames"]]
    media += [mirrored.wandb / "files" / mask["path"] for each in shown["all_masks"] for mask in each.values()]
    assert {kind for each in shown["all_masks"] for kind in each} == {"truth", "prediction"}
    assert {Image.open(path).size for path in media} == {(shown["width"], shown["height"])}
    assert all(caption.startswith("val_") and "weighted F 0." in caption for caption in shown["captions"])
    (labels,) = {
        json.dumps(label["value"])
        for record in inspect(mirrored.wandb)
        if record["type"] == "config"
        for label in record["config"]["update"].get("_wandb", {}).get("mask/class_labels", {}).values()
    }
    assert json.loads(labels) == {"0": "background", "1": "salient", "255": "ignored"}


def test_the_test_is_a_table_with_every_measure_of_every_image(mirrored, held):
    (artifact,) = (record["artifact"] for record in inspect(mirrored.wandb) if record["type"] == "artifact")
    files = {content["path"]: Path(content["local_path"]) for content in artifact["manifest"]["contents"]}
    assert held["summary"]["test/images"]["nrows"] == 3
    table = json.loads(files["test/images.table.json"].read_text())
    scores = mirrored.scores()
    assert table["columns"] == ["name", "image", "truth", "prediction", *scores.columns]
    for row, name in zip(table["data"], scores.names, strict=True):
        assert row[0] == name and [max(Image.open(files[cell["path"]]).size) for cell in row[1:4]] == [64] * 3
    values = [row[table["columns"].index("weighted_f")] for row in table["data"]]
    assert values == pytest.approx(scores.columns["weighted_f"].tolist())


@pytest.mark.parametrize("classes", [1, 3])
def test_pictures_are_small_whatever_the_image_is(classes):
    generator = np.random.default_rng(0)
    rows = []
    for name, shape in (("wide", (300, 900)), ("tall", (500, 40))):
        probability = generator.random((classes, *shape), np.float32)
        probability = probability[0] if classes == 1 else probability / probability.sum(axis=0)
        mask = generator.integers(0, max(classes, 2), shape)
        mask[:10] = 255
        rows.append((Photograph(name, generator.integers(0, 255, (*shape, 3), np.uint8), mask), probability))
    panels = validation_panels(rows, ["foreground"] if classes == 1 else ["a", "b", "c"])
    anatomy = panels.pop("pictures/anatomy", None)
    assert (anatomy is not None) == (classes == 1)  # of foreground only
    assert anatomy is None or max(anatomy.image.size) < 1000
    assert all(len(images) == 2 for images in panels.values()) and len(panels) == 2
    assert {image.image.size for images in panels.values() for image in images} == {(256, 256)}
    assert [max(image.size) for image in thumbnails(*rows[0])] == [128] * 3


def test_a_run_that_goes_on_keeps_its_id_and_is_uploaded_in_order(small, tmp_path):
    settings = f"{{hook: on_train_epoch_end, epoch: 1, signum: {int(signal.SIGTERM)}}}"
    callback = f"{{class_path: stopping.StopOnce, init_args: {settings}}}"
    StopOnce.armed = True
    with pytest.raises(SystemExit):
        main(["fit", *configs(EXPERIMENTS[0]), *small, "--trainer.max_epochs=3", f"--trainer.callbacks+={callback}"])
    (run,) = map(RunFolder, runs_below(tmp_path / "runs"))
    first = run.wandb
    main(["fit", "--resume", str(run), "--trainer.callbacks=[]"])
    assert run.wandb != first and run.wandb.name.endswith(run.wandb_id.read_text())
    assert [row["epoch"] for row in history(run) if "val/mae" in row] == [2]

    main(["test", "--config", str(run.config), "--ckpt_path", str(run)])
    (tested,) = (other for other in map(RunFolder, runs_below(tmp_path / "runs")) if other != run)
    (begun,) = (record["run"] for record in inspect(tested.wandb) if record["type"] == "run")
    assert begun["job_type"] == "test" and begun["run_group"] == f"{EXPERIMENTS[0]}/shapes"

    sync = [sys.executable, "-m", "wandb", "sync", "--dry-run", str(tmp_path / "runs" / "wandb")]
    shown = subprocess.run(sync, capture_output=True, check=True, text=True)
    assert "Would sync 3 run(s)" in shown.stdout + shown.stderr


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("no such luck")


@pytest.mark.parametrize("where", ["place", "log", "finish", "missing"])
def test_a_run_outlives_wandb(where, overlay, tmp_path, monkeypatch):
    if where == "missing":
        monkeypatch.setitem(sys.modules, "wandb", None)
    elif where == "place":  # wandb.init fails
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "wandb").touch()
    elif where == "log":
        monkeypatch.setattr(wandb.Run, "log", broken)
    else:
        monkeypatch.setattr(wandb, where, broken)
    with pytest.warns(UserWarning, match=r"W&B .* all is in (its own|the run's own) folder"):
        run, _ = fit(EXPERIMENTS[0], overlay, tmp_path / "runs")
    monkeypatch.undo()
    finish_wandb(1)
    assert run.finished and len(run.metrics.read_text().splitlines()) > 6
    assert (run.wandb is None) == (where in ("place", "missing"))


@pytest.fixture
def little_room(tmp_path):
    """Give W&B's folder a file system of its own, of 100 kB, which only root can."""
    place = tmp_path / "runs" / "wandb"
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_run_outlives_a_full_disk(little_room, overlay, capfd):
    with pytest.warns(UserWarning, match="W&B failed"):
        run, _ = fit(EXPERIMENTS[0], overlay, little_room.parent)
        finish_wandb(0)
    assert run.finished and sum(each.stat().st_blocks for each in little_room.rglob("*")) * 512 > 80_000
    assert len(capfd.readouterr().err.splitlines()) < 20


def test_a_run_outlives_the_end_of_wandbs_process(small, tmp_path):
    """As if it had run out of memory in the second epoch."""
    arguments = [*configs(EXPERIMENTS[0]), *small, "--trainer.callbacks+=stopping.KillWandb"]
    command = [sys.executable, "-m", "spatialseg", "fit", *arguments]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    env.pop("WANDB_SERVICE", None)  # the process that this one writes with
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0 and "W&B failed" in done.stderr, done.stderr[-3000:]
    (run,) = map(RunFolder, runs_below(tmp_path / "runs"))
    assert run.finished


def test_online_without_a_login_asks_nothing_and_goes_on_offline(overlay, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr("builtins.input", broken)
    with pytest.warns(UserWarning, match="no login is known; wandb login makes one.*kept offline"):
        run, _ = fit(EXPERIMENTS[0], overlay, tmp_path / "runs", "--test=false", "--trainer.max_epochs=1")
    assert run.finished and run.wandb.name.startswith("offline-run-")


def test_checkpoints_are_uploaded_on_request_each_once(tmp_path, small, capsys):
    with pytest.raises(SystemExit):
        main(["fit", *configs(EXPERIMENTS[0]), *small, "--upload=true"])
    assert "only online, and it is offline; set WANDB_MODE=online" in capsys.readouterr().err

    run = RunFolder.make(tmp_path / "runs", "any", "shapes", 0)
    run.checkpoints.mkdir()
    run.last.write_bytes(b"last")
    logged = []

    class Online:
        id = "abc"

        def log_artifact(self, artifact: wandb.Artifact, aliases: list[str]) -> None:
            logged.append((artifact.name, artifact.type, list(artifact.manifest.entries), aliases))

    mirror = WandbMirror(Online(), upload=run)
    mirror.finalize("failed")  # a run that crashed keeps its last
    run.best.write_bytes(b"best")
    mirror.finalize("success")
    mirror.finalize("success")
    name = "checkpoints-abc"
    assert logged == [(name, "model", ["last.ckpt"], ["latest"]), (name, "model", ["best.ckpt"], ["best"])]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweeps_are_what_wandb_takes_and_the_command_line_too(path, small, tmp_path, monkeypatch):
    sweep = yaml.safe_load(path.read_text())
    schema = json.loads((HERE / "sweep_schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(sweep)
    assert sweep["metric"]["goal"] == "maximize"

    monkeypatch.chdir(ROOT)
    for index in range(max(len(each.get("values", ())) for each in sweep["parameters"].values())):
        drawn = {
            name: {"value": each["values"][index % len(each["values"])] if "values" in each else each["min"]}
            for name, each in sweep["parameters"].items()
        }
        flags = create_sweep_command_args({"args": drawn})["args"]
        start, end = sweep["command"].index("fit"), sweep["command"].index("${args}")
        with pytest.raises(SystemExit) as stop:
            main([*sweep["command"][start:end], *flags, "--print_config"])
        assert stop.value.code in (0, None)


def test_an_agents_run_is_the_sweeps(small, tmp_path, monkeypatch):
    began = {}

    def init(**settings: object) -> None:
        began.update(settings)
        broken()

    monkeypatch.setenv("WANDB_SWEEP_ID", "abcd1234")
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(wandb, "login", lambda prompt: not prompt)
    monkeypatch.setattr(wandb, "init", init)
    with pytest.warns(UserWarning, match="W&B cannot be reached"):
        main(["fit", *configs(EXPERIMENTS[0]), *small, "--test=false", "--trainer.max_epochs=1"])
    assert began["job_type"] == "sweep" and not {"id", "project"} & began.keys()  # the agent's own count
