import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from spatialseg.cli import COMMANDS, main
from spatialseg.data import ProceduralScenes
from spatialseg.functional import weighted_f_measure
from spatialseg.run.folder import RunFolder, find_runs
from spatialseg.run.machine import automatic_precision
from spatialseg.task import SegmentationTask

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml") if path.stem != "base")


@pytest.fixture(scope="module")
def overlay(tmp_path_factory) -> list[str]:
    """Return the arguments that make any experiment a matter of seconds."""
    settings = {
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1},
        "model": {"encoder": "resnet18", "encoder_weights": None},
        "data": {
            "size": 64,
            "eval_size": 64,
            "batch_size": 4,
            "source": {
                "class_path": "spatialseg.data.ProceduralScenes",
                "init_args": {"train": 8, "val": 3, "test": 3, "size": 64},
            },
        },
    }
    path = tmp_path_factory.mktemp("overlay") / "small.yaml"
    path.write_text(yaml.safe_dump(settings))
    return ["--config", str(path)]


@pytest.fixture
def small(overlay, tmp_path) -> list[str]:
    """Return the same with a folder of runs for one test."""
    return [*overlay, "--runs", str(tmp_path / "runs")]


def configs(experiment: str) -> list[str]:
    files = ("base.yaml", f"{experiment}.yaml")
    return [part for name in files for part in ("--config", str(ROOT / "experiments" / name))]


def fit(experiment: str, overlay: list[str], runs: Path, *arguments: str) -> tuple[Path, str]:
    """Train, and return the new run folder with what was printed."""
    known = set(runs.glob("*/*/*/*"))
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        main(["fit", *configs(experiment), *overlay, "--runs", str(runs), "--seed_everything", "3", *arguments])
    (run,) = set(runs.glob("*/*/*/*")) - known
    return run, shown.getvalue()


@pytest.fixture(scope="module")
def finished(overlay, tmp_path_factory) -> dict[str, tuple[Path, str]]:
    """Return run folder and printed text of every experiment, trained once."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    return {experiment: fit(experiment, overlay, runs) for experiment in EXPERIMENTS}


def only_run(folder: Path) -> Path:
    (run,) = (folder / "runs").glob("*/*/*/*")
    return run


def measures_of(run: Path) -> dict[str, float]:
    return json.loads((run / "summary.json").read_text())["measures"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_trains_tests_and_leaves_everything(experiment, finished):
    run, shown = finished[experiment]
    assert run.parts[-4:-1] == (experiment, "shapes", "seed3")

    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["trainer"]["precision"] == automatic_precision()
    assert config["data"]["source"]["init_args"]["train"] == 8
    assert config["model"]["loss"][0]["name"]
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["val/weighted_f"]]) == 2
    assert {"lr-AdamW/encoder", "train/loss", "val/mae", "val/iou", "test/weighted_f"} <= rows[0].keys()
    assert len(list((run / "pictures").glob("*.png"))) == 2
    for name in ("best", "last"):
        SegmentationTask.load_from_checkpoint(run / "checkpoints" / f"{name}.ckpt", weights_only=True)

    assert not (run / "hparams.yaml").exists()

    assert find_runs(f"{experiment}/shapes", run.parents[3]) == find_runs(run) == [RunFolder(run)]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["seed"] == 3 and summary["epochs"] == 2 and summary["versions"]["torch"]
    assert 0 <= summary["measures"]["test/weighted_f"] <= 1
    assert "epoch 2/2" in shown and "test/weighted_f" in shown
    for path in ("config.yaml", "best.ckpt", "metrics.csv", "pictures", "images.csv", "offline-run-", "summary.json"):
        assert path in shown


def test_a_test_leaves_its_scores_image_by_image_and_its_maps(finished):
    run, shown = finished[EXPERIMENTS[0]]
    scores = RunFolder(run).scores()
    figures = {f"test/{name}": value for name, value in scores.figures().items()}
    assert measures_of(run) == pytest.approx(figures, abs=1e-12)
    with (run / "metrics.csv").open() as file:
        (logged,) = (row for row in csv.DictReader(file) if row["test/mae"])
    assert {name: float(logged[name]) for name in figures} == pytest.approx(figures, abs=1e-6)
    assert "MAE ↓" in shown and "the data set" in shown

    data = ProceduralScenes(train=8, val=3, test=3, size=64).dataset("test")
    assert scores.names == [sample["name"] for sample in data]
    for sample, value in zip(data, scores.columns["weighted_f"], strict=True):
        level = np.asarray(Image.open(run / "maps" / f"{sample['name']}.png"))
        assert level.dtype == np.uint8
        kept = weighted_f_measure(torch.from_numpy(level / 255)[None], sample["mask"][None]).f
        assert kept.item() == pytest.approx(value, abs=2e-3)


def test_wandb_holds_configuration_measures_and_pictures(finished):
    run, _ = finished[EXPERIMENTS[0]]
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(RunFolder(run).wandb)]
    held = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert {"train/loss", "val/weighted_f", "test/weighted_f", "predictions"} <= held["summary"].keys()
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert held["config"] == config  # each hyperparameter once


def test_same_seed_same_result_in_another_folder(finished, overlay):
    run, _ = finished[EXPERIMENTS[0]]
    again, _ = fit(EXPERIMENTS[0], overlay, run.parents[3])
    assert again.parent == run.parent and again != run
    assert measures_of(again) == measures_of(run)


def test_test_and_predict_use_a_run(finished, tmp_path):
    run, _ = finished[EXPERIMENTS[0]]
    use = ["--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
    use += ["--runs", str(tmp_path / "runs")]

    main(["test", *use, "--maps=false"])
    (tested,) = (tmp_path / "runs").glob("*/*/*/*_test")
    assert measures_of(tested) == pytest.approx(measures_of(run))
    assert (tested / "images.csv").read_text() == (run / "images.csv").read_text()
    assert not (tested / "maps").exists()

    photos = tmp_path / "photos"
    photos.mkdir()
    for name, size in (("wide", (90, 40)), ("tall", (31, 77))):
        noise = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
        Image.fromarray(noise).save(photos / f"{name}.png")
    main(["predict", *use, "--data.predict_root", str(photos)])
    (predicted,) = (tmp_path / "runs").glob("*/*/*/*_predict")
    assert Image.open(predicted / "predictions" / "wide.png").size == (90, 40)
    assert Image.open(predicted / "predictions" / "tall.png").size == (31, 77)
    assert Image.open(predicted / "predictions" / "tall.png").mode == "L"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.nosuch=1"], "nosuch"),
        (["--model.loss=[{name: wfbb}]"], "did you mean 'wfb'"),
        (["--model.loss=[{name: wfb, args: {beta: 1}}]"], "beta2"),
        (["--model.encoder_weights=bundled"], "not for the encoder 'resnet18'"),
        (["--model.network_args={decoder_chanels: [8, 8, 8, 8, 8]}"], "did you mean 'decoder_channels'"),
        (["--experiment=../x"], "becomes a folder"),
        (["--data.size=65"], "multiple of the stride"),
        (["--data.source=spatialseg.data.FolderPairs", "--data.source.root=/no/such/folder"], "/no/such/folder"),
    ],
)
def test_a_wrong_configuration_is_one_clear_error(small, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *configs(EXPERIMENTS[0]), *small, *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_an_unknown_key_in_a_file_is_named(small, tmp_path, capsys):
    (tmp_path / "typo.yaml").write_text("model: {learning_rat: 0.1}\n")
    with pytest.raises(SystemExit):
        main(["fit", *configs(EXPERIMENTS[0]), *small, "--config", str(tmp_path / "typo.yaml")])
    assert "learning_rat" in capsys.readouterr().err


def test_help_and_unknown_commands(capsys):
    main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"  {command} " in shown for command in COMMANDS)
    with pytest.raises(SystemExit, match="Did you mean 'fit'"):
        main(["fitt"])


def command(small: list[str], *arguments: str) -> list[str]:
    return [sys.executable, "-m", "spatialseg", "fit", *configs(EXPERIMENTS[0]), *small, *arguments]


def wait_for(path_pattern: str, folder: Path, process: subprocess.Popen, seconds: float = 240) -> Path:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        for path in folder.glob(path_pattern):
            return path
        time.sleep(0.1)
    raise AssertionError(f"no {path_pattern} below {folder}; the process says: {process.communicate()[0]}")


def test_ctrl_c_writes_the_last_checkpoint_and_training_goes_on_from_it(small, tmp_path):
    with subprocess.Popen(
        command(small, "--trainer.max_epochs=1000"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        pictures = wait_for("runs/*/*/*/*/pictures/epoch_001.png", tmp_path, process)
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=120)
    last = pictures.parents[1] / "checkpoints" / "last.ckpt"
    assert f"--ckpt_path {last}" in shown
    stopped = torch.load(last, weights_only=True)
    assert stopped["epoch"] >= 1

    epochs = stopped["epoch"] + 2
    main(["fit", *configs(EXPERIMENTS[0]), *small, "--ckpt_path", str(last), f"--trainer.max_epochs={epochs}"])
    resumed = max((tmp_path / "runs").glob("*/*/*/*"))
    assert resumed != pictures.parents[2]
    continued = torch.load(resumed / "checkpoints" / "last.ckpt", weights_only=True)
    assert continued["epoch"] == epochs - 1 and continued["global_step"] > stopped["global_step"]


def test_a_non_finite_loss_stops_with_the_file_names_and_keeps_the_last_checkpoint(small, tmp_path):
    plugin = tmp_path / "breaking.py"
    plugin.write_text(
        "import torch\n"
        "class Breaking(torch.nn.Module):\n"
        "    calls = 0\n"
        "    def forward(self, logits, target):\n"
        "        Breaking.calls += logits.requires_grad\n"
        "        return logits.mean() * (float('nan') if Breaking.calls > 3 else 1)\n"
    )
    arguments = command(small, "--model.loss=[{name: breaking.Breaking}]", "--trainer.max_epochs=3")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "error: the loss became nan in epoch 1" in done.stderr and "train_000" in done.stderr
    last = only_run(tmp_path) / "checkpoints" / "last.ckpt"
    assert str(last) in done.stdout
    assert all(value.isfinite().all() for value in torch.load(last, weights_only=True)["state_dict"].values())


def test_two_processes_train_together(small, tmp_path):
    arguments = command(small, "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=1")
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    run = only_run(tmp_path)
    summary = json.loads((run / "summary.json").read_text())
    assert 0 <= summary["measures"]["test/weighted_f"] <= 1
    assert done.stdout.count("run folder:") == 1
    assert len(list((run / "wandb").glob("offline-run-*"))) == 1
