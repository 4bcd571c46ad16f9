"""A real disk that is full, or cannot be written: nothing begins there, and what lies there stays whole."""

import shutil
import subprocess

import pytest
from small_runs import EXPERIMENTS, configs, runs_below

from spatialseg.cli import main
from spatialseg.run.checkpoints import read_checkpoint
from spatialseg.run.folder import RunFolder

SMALL = ["--model.encoder=tu-mobilenetv3_small_050", "--seed_everything=3"]


def mount(*arguments: str) -> bool:
    return (
        shutil.which("mount") is not None and not subprocess.run(["mount", *arguments], capture_output=True).returncode
    )


@pytest.fixture
def disk(tmp_path):
    """Return a file system of 72 MB, on which the checkpoints of the small network have room."""
    place = tmp_path / "disk"
    place.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=72m", "tmpfs", str(place)):
        pytest.skip("mounting a file system is not permitted here")
    yield place
    for each in ("readonly", "disk"):
        subprocess.run(["umount", "--lazy", tmp_path / each], capture_output=True)


def refusal(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["fit", *arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


def test_a_disk_that_fills_up_stops_a_training_that_goes_on_once_there_is_room(disk, overlay, capsys):
    begin = [*configs(EXPERIMENTS[0]), *overlay, f"--runs={disk / 'runs'}"]
    assert "MB left, checkpoints need" in refusal(capsys, *begin)  # of a larger network
    assert not runs_below(disk / "runs")

    callback = f"--trainer.callbacks+={{class_path: stopping.Fill, init_args: {{path: {disk / 'filler'}}}}}"
    message = refusal(capsys, *begin, *SMALL, callback)
    (run,) = map(RunFolder, runs_below(disk / "runs"))
    assert "No space left on device" in message and str(run) in message and "--resume" in message
    assert read_checkpoint(run.last)["epoch"] == 1
    assert {path.name for path in run.checkpoints.iterdir()} <= {"best.ckpt", "last.ckpt", "previous.ckpt"}
    assert not run.finished

    (disk / "filler").unlink()
    main(["fit", "--resume", str(run), "--trainer.callbacks=null"])
    assert run.finished and len(run.scores()) == 3

    readonly = disk.with_name("readonly")
    readonly.mkdir()
    assert mount("--bind", str(disk), str(readonly)) and mount("-o", "remount,bind,ro", str(readonly))
    there = readonly / run.path.relative_to(disk)
    for arguments in ([*begin, *SMALL, f"--runs={readonly / 'runs'}"], ["--resume", str(there)]):
        assert "Read-only file system" in refusal(capsys, *arguments)
    assert len(runs_below(disk / "runs")) == 1 and read_checkpoint(there / "checkpoints" / "last.ckpt")["epoch"] == 2
