"""A run that was stopped, however, ends as one that was not."""

import contextlib
import csv
import io
import signal

import pytest
import torch
from small_runs import EXPERIMENTS, configs, fit, runs_below
from stopping import Crash, StopOnce

from spatialseg.cli import main
from spatialseg.run.folder import RunFolder

# Dropout in the network, a schedule in the loss and a step in two: whatever is not restored shows.
SETTINGS = [
    "--model.architecture=fpn",
    "--model.network_args=null",
    "--model.loss=[{name: wfb}, {name: bce, schedule: {kind: linear, start: 1, end: 0}}]",
    "--trainer.max_epochs=3",
    "--data.source.init_args.train=16",
    "--trainer.accumulate_grad_batches=2",
]
MANY_BATCHES = "--data.batch_size=1"  # from the eleventh of an epoch on, running statistics depend on the number


@pytest.fixture(scope="module")
def uninterrupted(overlay, tmp_path_factory) -> RunFolder:
    return fit(EXPERIMENTS[0], overlay, tmp_path_factory.mktemp("whole") / "runs", *SETTINGS)[0]


def stop(
    small: list[str], tmp_path, hook: str, signum: int, epoch: int = 1, batch: int = 0, more: tuple[str, ...] = ()
) -> tuple[RunFolder, int, str]:
    """Train until a hook is called in an epoch; return the run, the exit status, and what was printed."""
    arguments = ["fit", *configs(EXPERIMENTS[0]), *small, *SETTINGS, *more, "--seed_everything", "3"]
    where = f"{{hook: {hook}, epoch: {epoch}, signum: {signum}, batch: {batch}}}"
    callback = f"{{class_path: stopping.StopOnce, init_args: {where}}}"
    StopOnce.armed = True
    with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.raises((SystemExit, Crash)) as end:
        main([*arguments, f"--trainer.callbacks+={callback}"])
    assert not StopOnce.armed
    (run,) = runs_below(tmp_path / "runs")
    return RunFolder(run), getattr(end.value, "code", None), shown.getvalue()


def rows_of(run: RunFolder) -> list[dict[str, str]]:
    clocks = ("step/images_per_second", "step/peak_memory_gb")  # never the same twice
    with run.metrics.open() as file:
        return [{key: value for key, value in row.items() if key not in clocks} for row in csv.DictReader(file)]


def assert_same_end(run: RunFolder, other: RunFolder) -> None:
    ours, theirs = (torch.load(each.last, weights_only=True)["state_dict"] for each in (run, other))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert run.images.read_bytes() == other.images.read_bytes()
    assert run.read_summary()["validation"] == other.read_summary()["validation"]
    ours, theirs = ({path.name for path in each.maps.iterdir()} for each in (run, other))
    assert ours == theirs
    ours, theirs = ({path.name for path in each.pictures.iterdir()} for each in (run, other))
    assert {min(theirs), max(theirs)} <= ours  # there is time for the first and the last


def test_the_number_of_loader_processes_changes_nothing(overlay, tmp_path, uninterrupted):
    run, _ = fit(EXPERIMENTS[0], overlay, tmp_path / "runs", *SETTINGS, "--data.num_workers=2")
    assert_same_end(run, uninterrupted)
    assert rows_of(run) == rows_of(uninterrupted)


@pytest.mark.parametrize(
    ("hook", "epoch"),
    [("on_validation_batch_end", 0), ("on_train_epoch_end", 1), ("on_train_batch_end", 2)],
)
def test_after_a_crash_the_run_goes_on_and_ends_the_same(hook, epoch, small, tmp_path, uninterrupted):
    run, _, _ = stop(small, tmp_path, hook, 0, epoch)
    assert not run.finished
    saved = torch.load(run.last, weights_only=True)
    assert saved["epoch"] == epoch  # nothing of a complete epoch is lost

    main(["fit", "--resume", str(run)])
    assert runs_below(tmp_path / "runs") == {run.path} and run.finished
    assert_same_end(run, uninterrupted)
    assert rows_of(run) == rows_of(uninterrupted)


@pytest.mark.parametrize(("hook", "name"), [("on_train_batch_start", "SIGTERM"), ("on_validation_start", "SIGHUP")])
def test_a_signal_saves_the_run_within_an_epoch_and_it_ends_the_same(hook, name, small, tmp_path, uninterrupted):
    number = signal.Signals[name]
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    run, status, shown = stop(small, tmp_path, hook, number)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert status == 128 + number
    assert f"stopped by {name} in epoch 2 of 3; to go on: python -m spatialseg fit --resume {run}" in shown
    stopped = torch.load(run.last, weights_only=True)
    assert stopped["epoch"] == 1 and stopped["global_step"] > torch.load(run.previous, weights_only=True)["global_step"]

    place = ["--runs", str(tmp_path / "runs"), "--seed_everything", "3"]
    main(["fit", *configs(EXPERIMENTS[0]), *small, *SETTINGS, *place, "--resume", "last"])
    assert runs_below(tmp_path / "runs") == {run.path}
    assert_same_end(run, uninterrupted)
    part = [{k: v for k, v in row.items() if not k.startswith("train/")} for row in rows_of(run)]
    whole = [{k: v for k, v in row.items() if not k.startswith("train/")} for row in rows_of(uninterrupted)]
    assert part == whole


def test_a_signal_late_in_an_epoch_leaves_its_running_statistics(small, overlay, tmp_path):
    whole, _ = fit(EXPERIMENTS[0], overlay, tmp_path / "whole", *SETTINGS, MANY_BATCHES)
    run, status, _ = stop(small, tmp_path, "on_train_batch_start", signal.SIGTERM, 2, batch=12, more=(MANY_BATCHES,))
    assert status == 128 + signal.SIGTERM
    main(["fit", "--resume", str(run)])
    assert_same_end(run, whole)


def test_a_signal_during_the_test_leaves_what_is_known_and_resume_tests(small, tmp_path, uninterrupted):
    run, status, shown = stop(small, tmp_path, "on_test_start", signal.SIGTERM, epoch=3)
    assert status == 143
    assert f"stopped by SIGTERM in test; to go on: python -m spatialseg fit --resume {run}" in shown
    known = run.read_summary()
    assert not known["finished"] and known["epochs"] == 3 and known["validation"]["mae"] > 0
    steps = torch.load(run.last, weights_only=True)["global_step"]

    main(["fit", "--resume", str(run)])
    assert torch.load(run.last, weights_only=True)["global_step"] == steps
    assert_same_end(run, uninterrupted)
    assert rows_of(run) == rows_of(uninterrupted)


def test_a_damaged_last_checkpoint_is_passed_over_with_a_warning(small, tmp_path, uninterrupted):
    run, _, _ = stop(small, tmp_path, "on_train_batch_end", 0, epoch=2)
    run.last.write_bytes(run.last.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match=r"last\.ckpt is damaged.*of epoch 1"):
        main(["fit", "--resume", str(run)])
    assert_same_end(run, uninterrupted)


def test_training_longer_than_planned_goes_on_in_the_same_folder(overlay, tmp_path):
    run, _ = fit(EXPERIMENTS[0], overlay, tmp_path / "runs")
    best = torch.load(run.best, weights_only=True)
    main(["fit", "--resume", str(run), "--trainer.max_epochs=3"])
    assert runs_below(tmp_path / "runs") == {run.path} and run.read_config()["trainer"]["max_epochs"] == 3
    rows = rows_of(run)
    rates = [float(row["lr-AdamW/decoder"]) for row in rows if row["lr-AdamW/decoder"]]
    assert len(rates) == 6 and rates[-1] <= rates[-2] <= rates[-3] <= rates[-4]
    scores = [float(row["val/weighted_f"]) for row in rows if row["val/weighted_f"]]
    assert len(scores) == 3
    # The best of all three epochs is kept, not the best since the run went on.
    kept = torch.load(run.best, weights_only=True)
    assert kept["epoch"] == scores.index(max(scores))
    assert kept["epoch"] == best["epoch"] or max(scores) > max(scores[:2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "/no/such/run"], "config.yaml"),
        (["--resume", "last"], "no unfinished run"),
        (["--resume", "RUN", "--model.encoder=resnet34"], "resnet18, the command says resnet34"),
        (["--resume", "RUN", "--seed_everything", "4"], "has the seed 3, the command says 4"),
    ],
)
def test_what_cannot_go_on_is_refused(arguments, message, small, tmp_path, finished, capsys):
    run, _ = finished[EXPERIMENTS[0]]
    before = run.metrics.read_bytes()
    with pytest.raises(SystemExit) as end:
        main(["fit", *small, *(str(run) if each == "RUN" else each for each in arguments)])
    assert end.value.code == 2 and message in capsys.readouterr().err
    assert run.metrics.read_bytes() == before and not runs_below(tmp_path / "runs")
