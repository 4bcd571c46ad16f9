import pytest

from spatialseg.run.folder import RunError, RunFolder, find_runs


def finished(runs, experiment, data, seed, time, says=True) -> RunFolder:
    run = RunFolder(runs / experiment / data / f"seed{seed}" / time)
    run.path.mkdir(parents=True)
    run.write_summary({"experiment": experiment, "data": data, "seed": seed, "finished": says})
    return run


def test_a_new_run_has_a_folder_of_its_own_and_knows_its_names(tmp_path):
    first, second = (RunFolder.make(tmp_path, "saliency_wfb", "ecssd", 3) for _ in range(2))
    assert first != second and first.path.is_dir() and second.path.is_dir()
    assert (first.experiment, first.data, first.seed, first.time) == ("saliency_wfb", "ecssd", 3, first.path.name)
    assert first.trains and not first.finished
    assert not RunFolder.make(tmp_path, "saliency_wfb", "ecssd", 3, "_test").trains
    assert first.last.parent == first.checkpoints and first.images.parent == first.path


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a/b", "a\\b", ".hidden", "a\0b"])
def test_names_that_leave_the_runs_folder_are_refused(tmp_path, name):
    for names in ((name, "ecssd"), ("saliency_wfb", name)):
        with pytest.raises(RunError, match="becomes a folder"):
            RunFolder.make(tmp_path / "runs", *names, 0)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="--runs"):
        RunFolder.make(tmp_path / "file", "saliency_wfb", "ecssd", 0)


def test_the_newest_finished_training_of_every_seed_is_found(tmp_path):
    finished(tmp_path, "wfb", "ecssd", 0, "2026-01-01_00-00-00")
    newest = finished(tmp_path, "wfb", "ecssd", 0, "2026-01-02_00-00-00")
    finished(tmp_path, "wfb", "ecssd", 0, "2026-01-03_00-00-00", says=False)
    finished(tmp_path, "wfb", "ecssd", 0, "2026-01-04_00-00-00_test")
    (tmp_path / "wfb" / "ecssd" / "seed0" / "2026-01-05_00-00-00").mkdir()
    tenth = finished(tmp_path, "wfb", "ecssd", 10, "2026-01-01_00-00-00")
    second = finished(tmp_path, "wfb", "ecssd", 2, "2026-01-01_00-00-00")
    finished(tmp_path, "wfb", "shapes", 2, "2026-01-01_00-00-00")

    everything = [newest, second, tenth]
    assert find_runs("wfb/ecssd", tmp_path) == everything
    assert find_runs(tmp_path / "wfb" / "ecssd") == everything
    assert find_runs("wfb/ecssd/seed2", tmp_path) == [second]
    assert find_runs(second.path) == [second]


def test_what_is_not_found_is_named_with_what_there_is(tmp_path):
    run = finished(tmp_path, "saliency_wfb", "ecssd", 0, "2026-01-01_00-00-00", says=False)
    finished(tmp_path, "saliency_wfb", "person", 0, "2026-01-01_00-00-00")
    with pytest.raises(RunError, match="did you mean 'saliency_wfb/person'"):
        find_runs("saliency_wbf/person", tmp_path)
    with pytest.raises(RunError, match=r"no run of it is finished; give .*: saliency_wfb/person$"):
        find_runs("saliency_wfb/ecssd", tmp_path)
    with pytest.raises(RunError, match="not the folder of a finished run"):
        find_runs(run.path)


def test_a_moved_run_keeps_its_names(tmp_path):
    run = finished(tmp_path, "wfb", "ecssd", 4, "2026-01-01_00-00-00")
    moved = RunFolder(run.path.rename(tmp_path / "evidence"))
    assert (moved.experiment, moved.data, moved.seed) == ("wfb", "ecssd", 4)
    assert find_runs(moved.path) == [moved]


def test_what_cannot_be_read_is_named(tmp_path):
    run = RunFolder(tmp_path)
    for read, path in ((run.read_config, run.config), (run.read_summary, run.summary)):
        with pytest.raises(RunError, match=f"{path.name} is missing"):
            read()
        for content in (b"{a: [", b"\xff\xfe", b"[1]"):
            path.write_bytes(content)
            with pytest.raises(RunError, match=path.name):
                read()
    with pytest.raises(RunError, match=r"images\.csv is missing"):
        run.scores()


def test_scores_of_validation_images_are_not_those_of_a_test(tmp_path):
    run = finished(tmp_path, "wfb", "ecssd", 4, "2026-01-01_00-00-00")
    for path in (run.images, run.curves):
        path.touch()
    run.write_summary({**run.read_summary(), "measures": {"val/iou": 0.5}})
    with pytest.raises(RunError, match="scored on validation images alone; run its test first"):
        run.scores()


def test_the_chosen_checkpoint_is_the_tested_one(tmp_path):
    run = finished(tmp_path, "wfb", "ecssd", 4, "2026-01-01_00-00-00")
    assert run.chosen == run.last  # no measure chose any
    run.checkpoints.mkdir()
    run.best.touch()
    assert run.chosen == run.best
    run.write_summary({**run.read_summary(), "best_checkpoint": "runs/elsewhere/checkpoints/last.ckpt"})
    assert run.chosen == run.last


def test_an_experiment_without_its_data_is_told_which_there_are(tmp_path):
    finished(tmp_path, "wfb", "ecssd", 4, "2026-01-01_00-00-00")
    with pytest.raises(RunError, match=r"on which data\? wfb/ecssd"):
        find_runs("wfb", tmp_path)
