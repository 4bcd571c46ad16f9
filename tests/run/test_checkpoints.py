import os
import resource
from collections import namedtuple
from contextlib import contextmanager

import pytest
import torch

from spatialseg.run.checkpoints import WholeFiles, check_room, newest_checkpoint, read_checkpoint
from spatialseg.run.folder import RunError, RunFolder

CHECKPOINT = {"state_dict": {"weight": torch.ones(10_000)}, "hyper_parameters": {}, "epoch": 1, "global_step": 2}


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


@pytest.fixture
def run(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    WholeFiles().save_checkpoint(CHECKPOINT, folder.last)
    return folder


@contextmanager
def a_full_disk(left: int):
    """Let no file grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_saved_is_read(run):
    assert read_checkpoint(run.last)["epoch"] == 1
    assert newest_checkpoint(run)["state_dict"]["weight"].sum() == 10_000
    assert newest_checkpoint(RunFolder(run.path / "nothing")) is None


def test_a_checkpoint_that_cannot_be_saved_leaves_the_one_before_and_nothing_else(run):
    before = run.last.read_bytes()
    larger = CHECKPOINT | {"state_dict": {"weight": torch.ones(100_000)}}
    message = r"last\.ckpt cannot be written: File too large; .*--resume"
    with a_full_disk(len(before) + 1000), pytest.raises(RunError, match=message):
        WholeFiles().save_checkpoint(larger, run.last)
    assert run.last.read_bytes() == before
    assert list(run.checkpoints.iterdir()) == [run.last]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b"no checkpoint at all", "is damaged, or no checkpoint"),
        ([1, 2], "is no checkpoint of this package"),
        ({"state_dict": {}}, "lacks epoch, global_step, hyper_parameters"),
        (CHECKPOINT | {"extra": Bomb()}, "holds more than weights and settings"),
    ],
)
def test_what_is_no_checkpoint_is_refused_by_name_and_runs_nothing(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "some.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(RunError, match=message) as refused:
        read_checkpoint(path)
    assert str(path) in str(refused.value) and not (tmp_path / "exploded").exists()


def test_a_damaged_checkpoint_gives_way_to_the_one_before(run):
    run.last.rename(run.previous)
    run.last.write_bytes(run.previous.read_bytes()[:-500])
    with pytest.warns(UserWarning, match=r"last\.ckpt is damaged.*the one before, of epoch 1"):
        assert newest_checkpoint(run)["epoch"] == 1
    assert read_checkpoint(run.last)["epoch"] == 1 and not run.previous.exists()
    run.last.write_bytes(b"")
    with pytest.raises(RunError, match="is damaged"):
        newest_checkpoint(run)


def test_a_run_killed_between_two_moves_goes_on_from_the_checkpoint_before(run):
    run.last.rename(run.previous)
    assert newest_checkpoint(run)["epoch"] == 1


def test_a_place_without_room_is_found_before_training(run, monkeypatch):
    network = torch.nn.Linear(1000, 1000)
    check_room(run, network)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1_000_000))
    with pytest.raises(RunError, match=r"1 MB left, checkpoints need 48 MB"):
        check_room(run, network)
    blocked = RunFolder(run.path / "blocked")
    blocked.path.mkdir()
    blocked.checkpoints.touch()
    with pytest.raises(RunError, match="cannot be written"):
        check_room(blocked, network)
