import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from report.runs import make_run
from report.scores import make_scores
from spatialseg.compare import main
from spatialseg.data import ProceduralScenes
from spatialseg.report.comparison import tabulate_differences, tabulate_figures
from spatialseg.report.entries import open_entries
from spatialseg.run.folder import RunError, RunFolder
from spatialseg.score import main as score
from spatialseg.scores import Measure, Scores


@pytest.fixture
def runs(tmp_path):
    """Two experiments of three seeds; the second is better."""
    for seed in range(3):
        make_run(tmp_path, "bce", make_scores(seed), seed)
        make_run(tmp_path, "wfb", make_scores(seed + 10, shift=0.1), seed)
    return tmp_path


def compare(runs, *arguments: str) -> None:
    main(["--runs", str(runs), *arguments])


def test_seeds_are_folded_and_the_better_run_is_marked(runs, capsys):
    compare(runs, "bce/shapes", "wfb/shapes", "--images", "0")
    shown = capsys.readouterr().out
    assert "40 test images" in shown and "Difference to bce" in shown and "Predictions not stretched; masks:" in shown
    lines = (runs / "comparison" / "comparison.md").read_text().splitlines()
    assert lines[2].startswith("| run | seeds | Fw |") and lines[5].startswith("| wfb | 3 | **0.6862** |")
    with (runs / "comparison" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = np.mean([make_scores(seed).figures()["iou"] for seed in range(3)])
    assert float(rows[0]["iou"]) == pytest.approx(expected, abs=1e-12)
    differences = json.loads((runs / "comparison" / "differences.json").read_text())["rows"]
    assert [row["measure"] for row in differences][:3] == ["Fw ↑", "F max ↑, of the mean curve", "MAE ↓"]
    first = differences[0]
    assert (
        first["low"] < first["difference"] < first["high"] and first["p_value"] == 0.25 and first["improvement"] > 0.6
    )
    assert first["pairs"] == 3
    for kind in ("csv", "md", "tex"):
        assert (runs / "comparison" / f"differences.{kind}").stat().st_size > 100


def test_single_runs_say_nothing_about_seeds(runs):
    entries = open_entries(["bce/shapes/seed0", "bce/shapes/seed2"], runs)
    assert [entry.arm.name for entry in entries] == ["bce seed0", "bce seed2"]
    table = tabulate_differences([entry.arm for entry in entries])
    assert "p_value" not in [column.key for column in table.columns] and len(table.rows) == 4


def test_runs_of_several_classes_are_compared(tmp_path):
    for seed, name in enumerate(("ce", "lal")):
        make_run(tmp_path, name, make_scores(seed, classes=("road", "car")))
    entries = open_entries(["ce/shapes", "lal/shapes"], tmp_path)
    scores = make_scores(1, classes=("road", "car"))
    ratios = [scores.columns[f"intersection/{c}"].sum() / scores.columns[f"union/{c}"].sum() for c in ("road", "car")]
    assert tabulate_figures(entries).rows[1]["iou"] == pytest.approx(np.mean(ratios))
    assert len(tabulate_differences([entry.arm for entry in entries]).rows) == 3


def damage(scores: Scores, how: str) -> Scores:
    if how == "names":
        return scores.take(scores.names[:-2])
    if how == "facts":
        scores.columns["foreground"][4] += 0.1
    elif how == "conventions":
        scores.conventions["beta2"] = 0.3
    else:
        scores.measures = (*scores.measures[:-1], replace(scores.measures[-1], better="lower"))
    return scores


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("names", r"different test images, 40 and 38, of which only one has 2 \(0038, 0039\)"),
        ("facts", r"ground truth differs in 1 images, such as '0004' with a foreground of 0\.\d+ and 0\.\d+"),
        ("conventions", "beta2 = 1.0 and 0.3"),
        ("measures", "mean different things by iou"),
    ],
)
def test_what_cannot_be_compared_is_refused(runs, how, message):
    make_run(runs, "other", damage(make_scores(0), how))
    with pytest.raises(RunError, match=message):
        open_entries(["bce/shapes", "other/shapes"], runs)


def test_runs_that_were_tested_before_there_was_a_measure_stand_beside_others(runs):
    scores = make_scores(5)
    scores.columns["later"] = scores.columns["weighted_f"]
    ratio = Measure("ratio", "of the data set", average="data set", of=("intersection", "union"))
    scores.measures += (Measure("later", "later"), ratio)
    make_run(runs, "wfb", scores, seed=4)
    entries = open_entries(["bce/shapes", "wfb/shapes"], runs)
    row = tabulate_figures(entries).rows[1]
    assert "ratio" not in row and np.isnan(row["later"]) and row["weighted_f"] > 0


def test_errors_of_the_command_line_are_one_line(runs, capsys):
    (runs / "file").touch()
    for arguments, message in (
        (["bce/shapes", "bce/shapes"], "name each once"),
        (["bc/shapes"], "did you mean"),
        (["bce/shapes", "--out", str(runs / "file")], "file cannot be a folder to write to"),
    ):
        with pytest.raises(SystemExit) as stop:
            compare(runs, *arguments)
        said = capsys.readouterr().err
        assert stop.value.code == 2 and message in said and said.count("\n") == 1


def test_a_picture_needs_maps_and_images_and_says_so(runs, capsys):
    compare(runs, "bce/shapes", "wfb/shapes")
    assert "No picture:" in (shown := capsys.readouterr().out) and "does not hold the maps" in shown
    missing = {"class_path": "spatialseg.data.FolderPairs", "init_args": {"root": "/no/such/place"}}
    run = make_run(runs, "folder", make_scores(0), source=missing)
    run.maps.mkdir()
    for name in make_scores(0).names:
        (run.maps / f"{name}.png").touch()
    compare(runs, "folder/shapes")
    assert "/no/such/place" in capsys.readouterr().out


def test_a_picture_shows_the_ranks_of_the_difference(tmp_path, capsys):
    samples = ProceduralScenes(test=6, size=32).dataset("test")
    for number, name in enumerate(("bce", "wfb")):
        scores = make_scores(number, count=6)
        scores.names[:] = sorted(sample["name"] for sample in samples)
        run = make_run(tmp_path, name, scores)
        run.maps.mkdir()
        for sample in samples:
            Image.fromarray(sample["mask"].numpy() * 255).save(run.maps / f"{sample['name']}.png")
    compare(tmp_path, "bce/shapes", "wfb/shapes", "--images", "3", "--html")
    assert "comparison.png, comparison.html" in capsys.readouterr().out
    assert Image.open(tmp_path / "comparison" / "comparison.png").width > 300
    page = (tmp_path / "comparison" / "comparison.html").read_text(encoding="utf-8")
    assert page.count("<img") == 6 * (2 + 2 * 2 + 2) and "Where they disagree most" in page


QUICK = ("--sheet", "0", "--figures", "none", "--formats", "json")


def score_maps(folder, names, maps: dict[str, float]) -> None:
    """Score, of each method, the masks of scenes with so much of them left, as maps on disk."""
    samples = {sample["name"]: sample for sample in ProceduralScenes(test=6, size=32).dataset("test")}
    for place in (folder / "masks", *(folder / method for method in maps)):
        place.mkdir(parents=True)
    for name in names:
        level = samples[name]["mask"].numpy() * 255
        Image.fromarray(level).save(folder / "masks" / f"{name}.png")
        for method, share in maps.items():
            Image.fromarray((level * share).astype(np.uint8)).save(folder / method / f"{name}.png")
    score(["--pred", *(str(folder / method) for method in maps), "--gt", str(folder / "masks"), *QUICK])


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Make a run that was tested on four scenes and found half of everything, and maps of six that were scored."""
    monkeypatch.chdir(tmp_path)
    names = [f"test_{index:04d}" for index in range(6)]
    score_maps(tmp_path, names, {"half": 0.5, "peer": 0.9, "other": 0.2})
    scores = Scores.load(tmp_path / "scores", "images_half_masks").take(names[:4])
    scores.columns["weighted_f_cut"] = scores.columns["weighted_f"] + 0.1
    first, *rest = scores.measures
    scores.measures = (first, Measure("weighted_f_cut", "Fw cut"), *rest)
    scores.conventions |= {"cuts": [0.5], "cut": 0.5}
    run = make_run(tmp_path / "runs", "bce", scores)
    (tmp_path / "half").rename(run.maps)
    return tmp_path


def test_scored_maps_stand_beside_runs(beside, capsys):
    main(["bce/shapes", "scores/peer", "--html", "--images", "1"])
    shown = capsys.readouterr().out
    assert "4 test images" in shown and "Difference to bce" in shown and "scored maps (peer)" in shown
    rows = json.loads((beside / "runs" / "comparison" / "comparison.json").read_text())["rows"]
    peer = Scores.load(beside / "scores", "images_peer_masks").take([f"test_{index:04d}" for index in range(4)])
    assert [row["run"] for row in rows] == ["bce", "peer"] and [row["seeds"] for row in rows] == [1, None]
    assert rows[1]["weighted_f"] == pytest.approx(peer.columns["weighted_f"].mean())
    assert rows[1]["weighted_f_cut"] is None
    assert rows[0]["weighted_f_cut"] == pytest.approx(rows[0]["weighted_f"] + 0.1)
    page = (beside / "runs" / "comparison" / "comparison.html").read_text(encoding="utf-8")
    assert page.count("<img") == 2 * (2 + 2 * 2 + 2) and "<h1>bce, peer on shapes</h1>" in page


def test_maps_may_be_called_otherwise_than_their_images(beside, capsys):
    for path in (beside / "peer").iterdir():
        path.rename(path.with_name(f"{path.stem}_sal.png"))
    score(["--pred", "peer", "--gt", "masks", "--pred-suffix", "_sal", "--out", "again", *QUICK])
    main(["bce/shapes", "again/peer", "--images", "1"])
    assert "comparison.png" in capsys.readouterr().out


def test_a_folder_of_scores_is_all_its_methods(beside, capsys):
    entries = open_entries(["bce/shapes", "scores"])
    assert [entry.arm.name for entry in entries] == ["bce", "half", "peer", "other"]
    assert [entry.arm.name for entry in open_entries(["scores/other", "scores/peer"])] == ["other", "peer"]
    main(["scores/peer", "scores/other", "--html"])
    assert "scored maps come without photographs" in (shown := capsys.readouterr().out) and "6 test images" in shown


def test_one_of_several_data_sets_can_be_named(beside):
    (beside / "sets").mkdir()
    for name in "ab":
        (beside / "sets" / name).symlink_to(beside / "peer")
    score(["--pred", "peer=sets", "--gt", "a=masks", "b=masks", "--out", "both", *QUICK])
    assert [entry.place for entry in open_entries(["both/peer/b", "scores/other"])] == [
        "both/peer/b",
        "scores/other/masks",
    ]
    with pytest.raises(
        RunError, match="are called 'peer': both/peer/a, both/peer/b; name each once, of scored maps one"
    ):
        open_entries(["both"])


def test_further_measures_of_maps_do_not_keep_them_from_runs(beside):
    score(["--pred", "peer", "--gt", "masks", "--out", "further", "--further", "multiscale_iou", *QUICK])
    run, peer = open_entries(["bce/shapes", "further/peer"])
    assert [measure.name for measure in run.arm.measures] == [measure.name for measure in peer.arm.measures]


def test_maps_without_seeds_are_held_against_all_seeds_of_a_run(beside):
    first = RunFolder(open_entries(["bce/shapes"])[0].place).scores()
    make_run(beside / "runs", "bce", first.take(first.names), seed=1)
    arms = [entry.arm for entry in open_entries(["bce/shapes", "scores/peer"])]
    assert {row["pairs"] for row in tabulate_differences(arms).rows} == {0}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["scores/pear", "bce/shapes"], "no method 'pear', did you mean 'peer'"),
        (["scores/peer", "scores/peer"], "2 of what is compared are called 'peer'"),
    ],
)
def test_what_is_wrong_with_scored_maps_is_said(beside, names, message):
    with pytest.raises(RunError, match=message):
        open_entries(names)


def test_maps_must_be_scored_like_the_run_and_on_its_images(beside):
    names = [f"test_{index:04d}" for index in range(2, 6)]
    few = beside / "few"
    few.mkdir()
    for part in ("peer", "masks"):
        (few / part).mkdir()
        for name in names:
            (few / part / f"{name}.png").write_bytes((beside / part / f"{name}.png").read_bytes())
    score(["--pred", "few/peer", "--gt", "few/masks", "--out", "few/scores", *QUICK])
    with pytest.raises(RunError, match="different test images, 4 and 4, of which only one has 4"):
        open_entries(["bce/shapes", "few/scores"])
    score(["--pred", "peer", "--gt", "masks", "--out", "stretched", "--preset", "pysodmetrics", *QUICK])
    with pytest.raises(RunError, match=r"they were scored with .* = .* and .*; test or score one of them again"):
        open_entries(["bce/shapes", "stretched"])


def test_the_page_of_one_run_shows_its_worst_and_best(tmp_path):
    samples = ProceduralScenes(variant="multiclass", test=4, size=32).dataset("test")
    scores = make_scores(0, count=4, classes=("disc", "box"))
    scores.names[:] = sorted(sample["name"] for sample in samples)
    source = {"class_path": "spatialseg.data.ProceduralScenes", "init_args": {"variant": "multiclass", "test": 4}}
    source["init_args"]["size"] = 32
    run = make_run(tmp_path, "ce", scores, source=source)
    run.maps.mkdir()
    for sample in samples:
        Image.fromarray(sample["mask"].numpy()).save(run.maps / f"{sample['name']}.png")
    compare(tmp_path, "ce/shapes", "--images", "1", "--html")
    page = (tmp_path / "comparison" / "comparison.html").read_text(encoding="utf-8")
    values = scores.columns["weighted_f"]
    picks = (values.argmin(), values.argmax())
    worst, best = (f"<h3>{scores.names[pick]}: Fw {values[pick]:.3f}</h3>" for pick in picks)
    assert worst in page and best in page and "Worst and best" in page


def test_nothing_heavy_is_imported(runs):
    code = (
        "from spatialseg.cli import main; main(sys.argv[1:]); print({'torch', 'scipy', 'lightning'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", f"import sys; {code}", "compare", "--runs", str(runs), "bce/shapes", "wfb/shapes"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.endswith("set()\n")
