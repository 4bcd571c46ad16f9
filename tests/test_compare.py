import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from report.runs import make_run
from report.scores import make_scores
from spatialseg.compare import main, open_runs, tabulate_differences, tabulate_figures
from spatialseg.data import ProceduralScenes
from spatialseg.run.folder import RunError
from spatialseg.scores import Scores


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
    assert "40 test images" in shown and "Difference to bce" in shown
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
    for kind in ("csv", "md", "tex"):
        assert (runs / "comparison" / f"differences.{kind}").stat().st_size > 100


def test_single_runs_say_nothing_about_seeds(runs):
    entries = open_runs(["bce/shapes/seed0", "bce/shapes/seed2"], runs)
    assert [entry.arm.name for entry in entries] == ["bce seed0", "bce seed2"]
    table = tabulate_differences([entry.arm for entry in entries])
    assert "p_value" not in [column.key for column in table.columns] and len(table.rows) == 4


def test_runs_of_several_classes_are_compared(tmp_path):
    for seed, name in enumerate(("ce", "lal")):
        make_run(tmp_path, name, make_scores(seed, classes=("road", "car")))
    arms = [entry.arm for entry in open_runs(["ce/shapes", "lal/shapes"], tmp_path)]
    scores = make_scores(1, classes=("road", "car"))
    ratios = [scores.columns[f"intersection/{c}"].sum() / scores.columns[f"union/{c}"].sum() for c in ("road", "car")]
    assert tabulate_figures(arms).rows[1]["iou"] == pytest.approx(np.mean(ratios))
    assert len(tabulate_differences(arms).rows) == 3


def damage(scores: Scores, how: str) -> Scores:
    if how == "names":
        return scores.take(scores.names[:-2])
    if how == "facts":
        scores.columns["foreground"][4] += 0.1
    elif how == "conventions":
        scores.conventions["beta2"] = 0.3
    else:
        scores.measures = scores.measures[:-1]
    return scores


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("names", r"different test images, 40 and 38, of which only one has 2 \(0038, 0039\)"),
        ("facts", r"ground truth differs in 1 images, such as '0004' with a foreground of 0\.\d+ and 0\.\d+"),
        ("conventions", "beta2 = 1.0 and 0.3"),
        ("measures", "different measures"),
    ],
)
def test_what_cannot_be_compared_is_refused(runs, how, message):
    make_run(runs, "other", damage(make_scores(0), how))
    with pytest.raises(RunError, match=message):
        open_runs(["bce/shapes", "other/shapes"], runs)


def test_errors_of_the_command_line_are_one_line(runs, capsys):
    for arguments, message in ((["bce/shapes", "bce/shapes"], "name each once"), (["bc/shapes"], "did you mean")):
        with pytest.raises(SystemExit) as stop:
            compare(runs, *arguments)
        assert stop.value.code == 2 and message in capsys.readouterr().err


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
    assert page.count("<img") == 6 * (2 + 2 * 2) and "Where they disagree most" in page


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
    worst, best = (
        scores.names[pick] for pick in (scores.columns["weighted_f"].argmin(), scores.columns["weighted_f"].argmax())
    )
    assert f"<h3>{worst}</h3>" in page and f"<h3>{best}</h3>" in page and "Worst and best" in page


def test_nothing_heavy_is_imported(runs):
    code = (
        "from spatialseg.cli import main; main(sys.argv[1:]); print({'torch', 'scipy', 'lightning'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", f"import sys; {code}", "compare", "--runs", str(runs), "bce/shapes", "wfb/shapes"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.endswith("set()\n")
