"""Commands of a run, from arguments to what lies in its folder."""

import csv
import os
import platform
import shutil
import subprocess
import sys
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image
from small_runs import EXPERIMENTS, SEMANTIC, configs, fit, runs_below

from spatialseg.cli import COMMANDS, busy_cores, main
from spatialseg.data import ProceduralScenes
from spatialseg.functional import weighted_f_measure
from spatialseg.run import callbacks
from spatialseg.run.folder import RunFolder, find_runs
from spatialseg.run.machine import automatic_precision
from spatialseg.task import CUTS, SegmentationTask


def measures_of(run: RunFolder) -> dict[str, float]:
    return run.read_summary()["measures"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_trains_tests_and_leaves_everything(experiment, finished):
    run, shown = finished[experiment]
    assert (run.experiment, run.data, run.seed) == (experiment, "shapes", 3)
    config = run.read_config()
    assert config["trainer"]["precision"] == automatic_precision()
    assert config["data"]["source"]["init_args"]["train"] == 8
    assert config["model"]["loss"][0]["name"]
    with run.metrics.open() as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["val/weighted_f"]]) == 2
    assert {"lr-AdamW/encoder", "train/loss", "val/mae", "val/iou", "test/weighted_f"} <= rows[0].keys()
    assert len(list(run.pictures.glob("*.png"))) == 2
    for path in (run.best, run.last):
        SegmentationTask.load_from_checkpoint(path, weights_only=True)
    assert not (run.path / "hparams.yaml").exists()

    assert find_runs(f"{experiment}/shapes", run.path.parents[3]) == find_runs(run.path) == [run]
    summary = run.read_summary()
    assert summary["seed"] == 3 and summary["epochs"] == 2 and summary["versions"]["torch"]
    assert 0 <= summary["measures"]["test/weighted_f"] <= 1
    assert "epoch 2/2" in shown and "test/weighted_f" in shown
    for path in (run.config, run.best, run.metrics, run.pictures, run.images, run.wandb, run.summary):
        assert str(path) in shown


@pytest.mark.parametrize("experiment", SEMANTIC)
def test_experiments_of_several_classes_train(experiment, overlay, tmp_path):
    options = ["--data.source.init_args.variant=multiclass", "--trainer.max_epochs=1", "--test=false"]
    run, _ = fit(experiment, overlay, tmp_path / "runs", *options)
    assert run.finished and run.data == "kinds" and run.read_summary()["validation"]["weighted_f"] >= 0


def test_the_network_can_be_compiled(small, tmp_path, monkeypatch, capsys):
    """As far as PyTorch captures it, with batches of several sizes; to make machine code of it takes minutes."""
    arguments = ["fit", *configs(EXPERIMENTS[0]), *small, "--compile=true", "--trainer.max_epochs=1", "--test=false"]
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and "--compile needs a C++ compiler" in capsys.readouterr().err
    assert not runs_below(tmp_path / "runs")

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="eager"))
    main(arguments)
    (run,) = map(RunFolder, runs_below(tmp_path / "runs"))
    assert run.finished
    SegmentationTask.load_from_checkpoint(run.best, weights_only=True)


def test_a_test_leaves_its_scores_image_by_image_and_its_maps(finished):
    run, shown = finished[EXPERIMENTS[0]]
    scores = run.scores()
    figures = {f"test/{name}": value for name, value in scores.figures().items()}
    assert measures_of(run) == pytest.approx(figures, abs=1e-12)
    with run.metrics.open() as file:
        (logged,) = (row for row in csv.DictReader(file) if row["test/mae"])
    assert {name: float(logged[name]) for name in figures} == pytest.approx(figures, abs=1e-6)
    assert "MAE ↓" in shown and "the data set" in shown

    data = ProceduralScenes(train=8, val=3, test=3, size=64).dataset("test")
    assert scores.names == [sample["name"] for sample in data]
    for sample, value in zip(data, scores.columns["weighted_f"], strict=True):
        level = np.asarray(Image.open(run.maps / f"{sample['name']}.png"))
        assert level.dtype == np.uint8
        kept = weighted_f_measure(torch.from_numpy(level / 255)[None], sample["mask"][None]).f
        assert kept.item() == pytest.approx(value, abs=2e-3)


def test_same_seed_same_result_in_another_folder(finished, overlay):
    run, _ = finished[EXPERIMENTS[0]]
    again, _ = fit(EXPERIMENTS[0], overlay, run.path.parents[3])
    assert again.path.parent == run.path.parent
    assert measures_of(again) == measures_of(run)


def test_test_uses_a_run(finished, tmp_path):
    run, _ = finished[EXPERIMENTS[0]]
    use = ["--config", str(run.config), "--runs", str(tmp_path / "runs")]

    main(["test", *use, "--ckpt_path", str(run.best), "--maps=false"])
    (tested,) = map(RunFolder, runs_below(tmp_path / "runs"))
    assert tested.time.endswith("_test") and tested.finished
    assert measures_of(tested) == pytest.approx(measures_of(run))
    assert not tested.maps.exists()


def test_a_test_cuts_maps_where_the_run_does(finished, tmp_path):
    run = RunFolder(shutil.copytree(finished[EXPERIMENTS[0]][0], tmp_path / "a" / "b" / "seed3" / "run"))
    run.write_summary({**run.read_summary(), "cut": 0.25})
    main(["test", "--config", str(run.config), "--runs", str(tmp_path / "runs"), "--ckpt_path", str(run.path)])
    (tested,) = map(RunFolder, runs_below(tmp_path / "runs"))
    assert tested.read_summary()["cut"] == 0.25
    curve = run.scores().mean_curve("weighted_f")
    assert measures_of(tested)["test/weighted_f_cut"] == pytest.approx(curve[CUTS.index(0.25)])


def test_averaged_weights_are_what_is_tested(overlay, tmp_path):
    averaging = ("--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.5", "--monitor=null")
    run, _ = fit("saliency_bce", overlay, tmp_path / "runs", *averaging)
    state = torch.load(run.last, weights_only=True)
    name = "network.segmentation_head.0.weight"
    assert not torch.equal(state["state_dict"][name], state["current_model_state"][name])
    main(["test", *overlay, "--runs", str(tmp_path / "again"), "--ckpt_path", str(run.path)])
    (tested,) = map(RunFolder, runs_below(tmp_path / "again"))
    assert measures_of(tested) == pytest.approx(measures_of(run))


def test_a_training_without_a_test_needs_no_images_of_it(overlay, tmp_path):
    run, _ = fit("saliency_bce", overlay, tmp_path / "runs", "--data.source.init_args.test=0", "--test=false")
    assert run.finished and "val/iou" in measures_of(run)


def test_predicting_the_test_images_gives_the_maps_of_the_test(finished, tmp_path):
    run, _ = finished[EXPERIMENTS[0]]
    ProceduralScenes(train=8, val=3, test=3, size=64).export(tmp_path / "scenes")
    out = tmp_path / "predicted"
    main(["predict", str(run), f"{tmp_path}/scenes/images/test_*.png", "--out", str(out)])
    cut = run.read_summary()["cut"]
    for path in run.maps.iterdir():
        ours, theirs = (np.asarray(Image.open(each)) for each in (out / "maps" / path.name, path))
        assert (ours != theirs).mean() < 1e-3 and np.abs(ours.astype(int) - theirs).max() <= 1  # rounded otherwise
        mask = np.asarray(Image.open(out / "masks" / path.name)) > 0
        sure = np.abs(ours / 255 - cut) > 1 / 255
        np.testing.assert_array_equal(mask[sure], (ours / 255 >= cut)[sure])
    assert len(list((out / "maps").iterdir())) == len(list(run.maps.iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "TYPO"], "learning_rat"),
        (["--model.loss=[{name: wfb, args: {beta: 1}}]"], "beta2"),
        (["--model.encoder_weights=bundled"], "not for the encoder 'resnet18'"),
        (["--model.network_args={decoder_chanels: [8, 8, 8, 8, 8]}"], "did you mean 'decoder_channels'"),
        (["--trainer.max_epochs=-1"], "at least one epoch"),
        (["--trainer.limit_train_batches=0"], "no training step was made"),
        (["--profile=true", "--trainer.profiler=simple"], "two profilers"),
        (["--model.loss=[{name: wfb, args: {beta2: abc}}]"], "loss 'wfb' cannot be made with {'beta2': 'abc'}"),
        (["--data.source.init_args.test=0"], "the test split is empty"),
        (["--data.source=spatialseg.data.FolderPairs", "--data.source.root=/no/such/folder"], "/no/such/folder"),
    ],
)
def test_a_wrong_configuration_is_one_clear_error_and_leaves_nothing(small, tmp_path, capsys, arguments, message):
    (tmp_path / "typo.yaml").write_text("model: {learning_rat: 0.1}")
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "fit",
                *configs(EXPERIMENTS[0]),
                *small,
                *(each.replace("TYPO", str(tmp_path / "typo.yaml")) for each in arguments),
            ]
        )
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert message in shown and len(shown.splitlines()) < 10
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.loss=[{name: dice}]"], "'name': 'dice'"),
        (["--model.encoder=tu-tf_efficientnet_lite0"], "resnet18, the command says tu-tf_efficientnet_lite0"),
        (["--model.architecture=fpn"], "--model.architecture unet, the command says fpn"),
        (["--data.source.init_args.variant=multiclass"], "knows 1 classes, kinds has 7"),
    ],
)
def test_a_checkpoint_is_not_overruled_nor_does_it_overrule(arguments, message, finished, small, capsys):
    run, _ = finished[EXPERIMENTS[0]]
    with pytest.raises(SystemExit) as stop:
        main(["test", *small, "--ckpt_path", str(run.best), *arguments])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_training_on_needs_more_epochs(finished, small, tmp_path, capsys):
    run, _ = finished[EXPERIMENTS[0]]
    command = ["fit", *configs(EXPERIMENTS[0]), *small, "--ckpt_path", str(run.last)]
    with pytest.raises(SystemExit):
        main(command)
    assert "has been trained for --trainer.max_epochs 2 already" in capsys.readouterr().err
    assert not runs_below(tmp_path / "runs")
    main([*command, "--trainer.max_epochs=3"])
    (further,) = map(RunFolder, runs_below(tmp_path / "runs"))
    assert further.read_summary()["epochs"] == 3


def test_what_the_monitor_prefers_is_kept(overlay, tmp_path):
    run, _ = fit("saliency_wfb", overlay, tmp_path / "runs", "--monitor=val/mae")
    with run.metrics.open() as file:
        errors = [float(row["val/mae"]) for row in csv.DictReader(file) if row["val/mae"]]
    assert errors[1] < errors[0]
    assert torch.load(run.best, weights_only=True)["epoch"] == 1
    assert run.read_summary()["validation"]["mae"] == pytest.approx(min(errors), abs=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--trainer.fast_dev_run=true"],
        ["--trainer.logger=false", "--trainer.enable_checkpointing=false", "--monitor=null", "--trainer.max_epochs=1"],
    ],
)
def test_switches_of_the_trainer_work(arguments, small, tmp_path, monkeypatch):
    tested, end = [], SegmentationTask.on_test_epoch_end
    monkeypatch.setattr(SegmentationTask, "on_test_epoch_end", lambda task: (tested.append(task), end(task)))
    main(["fit", *configs(EXPERIMENTS[0]), *small, *arguments])
    runs = [RunFolder(path) for path in runs_below(tmp_path / "runs")]
    assert all(run.finished and not run.checkpoints.exists() and not run.wandb for run in runs)
    assert bool(runs) == ("--trainer.logger=false" in arguments)
    assert len(tested) == 1


def test_pictures_take_no_more_time_than_they_may(monkeypatch, tmp_path):
    """An epoch lasts a second, and its pictures a quarter; of 60 seconds they may take 5 %."""
    clock, drawn = [0.0], []
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: clock[0])
    pictures = callbacks.ValidationPictures(tmp_path, share=0.05)
    trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING), sanity_checking=False, is_global_zero=True)
    trainer.max_epochs, trainer.loggers = 60, []

    def draw(rows: list) -> Image.Image:
        clock[0] += 0.25
        drawn.append(trainer.current_epoch)
        return Image.new("L", (1, 1))

    monkeypatch.setattr(callbacks, "draw_predictions", draw)
    pictures.on_train_start(trainer, None)
    for trainer.current_epoch in range(60):
        clock[0] += 1
        pictures.on_validation_epoch_start(trainer, None)
        if pictures._wanted:
            pictures._rows = [None]
        pictures.on_validation_epoch_end(trainer, None)
    assert drawn[0] == 0 and drawn[-1] == 59 and len(drawn) == pytest.approx(60 * 0.05 / 0.25, abs=2)
    assert len(list(tmp_path.glob("epoch_*.png"))) == len(drawn)


@pytest.mark.parametrize("command", [*COMMANDS, "losses check"])
def test_help_ends_with_an_example(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")  # narrow, and yet it can be pasted
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert not stop.value.code
    assert capsys.readouterr().out.rstrip().splitlines()[-1].startswith(f"example: python -m spatialseg {command}")


def test_help_and_unknown_commands(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["spatialseg"])
    main()
    shown = capsys.readouterr().out
    main(["--help"])
    assert capsys.readouterr().out == shown
    assert all(f"  {command} " in shown for command in COMMANDS)
    with pytest.raises(SystemExit, match="2"):
        main(["fitt"])


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux counts there")
def test_other_work_is_seen_and_threads_spin_less(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            assert busy_cores(0.5) > 0.5
            with pytest.raises(SystemExit):
                main(["fit", "--config", str(tmp_path / "none.yaml")])
        finally:
            other.kill()
    assert os.environ.pop("GOMP_SPINCOUNT") == "1000"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_freed_memory_is_kept_for_the_next_tensor_unless_the_user_says_otherwise():
    count = """
import resource
from spatialseg.cli import main
main(["--help"])
b"x" * (64 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"x" * (64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def faults(**variables):
        environment = others | variables
        said = subprocess.run(
            [sys.executable, "-c", count], env=environment, capture_output=True, text=True, check=True
        )
        return int(said.stdout.split()[-1])

    assert faults() * 10 < faults(MALLOC_TOP_PAD_="131072")  # 16,384 pages of 4 KB, or 32 of 2 MB


def test_a_non_finite_loss_stops_with_the_file_names_and_keeps_the_last_checkpoint(small, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *configs(EXPERIMENTS[0]), *small, "--model.loss=[{name: stopping.Breaking}]"])
    shown = capsys.readouterr().err
    assert stop.value.code == 2
    assert "error: the loss became nan in epoch 1" in shown and "train_000" in shown
    (run,) = map(RunFolder, runs_below(tmp_path / "runs"))
    assert f"the last whole epoch is in {run.last}" in shown
    assert all(value.isfinite().all() for value in torch.load(run.last, weights_only=True)["state_dict"].values())
