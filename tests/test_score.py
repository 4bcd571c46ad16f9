import csv
import json
import math
import warnings

import numpy as np
import py_sod_metrics
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from spatialseg.conventions import PRESETS
from spatialseg.data.files import read_map
from spatialseg.metrics import available_measures, saliency_metrics
from spatialseg.report import pictures
from spatialseg.score import main, score
from spatialseg.scores import Scores


def write(folder, name, grey):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(folder / name)


@pytest.fixture
def files(tmp_path):
    """Six images of several sizes, one mask empty; two methods, the second worse."""
    rng = np.random.default_rng(0)
    for index in range(6):
        height, width = rng.integers(30, 60, 2)
        mask = np.zeros((height, width), np.uint8)
        if index != 4:
            mask[8:20, 5 + index : 25] = 255
        write(tmp_path / "gt", f"{index}.png", mask)
        for method, noise in (("good", 40), ("bad", 150)):
            grey = 0.6 * np.roll(mask, 2, axis=1) + rng.random(mask.shape) * noise
            write(tmp_path / method, f"{index}.png", np.clip(grey, 0, 255).astype(np.uint8))
    return tmp_path


def run(files, *arguments, gt="gt"):
    main(
        [
            "--pred",
            str(files / "good"),
            str(files / "bad"),
            "--gt",
            str(files / gt),
            "--out",
            str(files / "out"),
            *arguments,
        ]
    )


def pysodmetrics(maps, masks):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measures = [
            getattr(py_sod_metrics, kind)() for kind in ("WeightedFmeasure", "Smeasure", "Emeasure", "Fmeasure", "MAE")
        ]
        for path in sorted(masks.iterdir()):
            for measure in measures:
                measure.step(read_map(maps / path.name), read_map(path))
        w, s, e, f, mae = (measure.get_results() for measure in measures)
    e, f = e["em"], f["fm"]
    means = [
        w["wfm"],
        s["sm"],
        e["adp"],
        e["curve"].mean(),
        e["curve"].max(),
        f["adp"],
        f["curve"].mean(),
        f["curve"].max(),
    ]
    names = "weighted_f", "s_measure", "e_adaptive", "e_mean", "e_max", "f_adaptive", "f_mean", "f_max", "mae"
    return dict(zip(names, [*means, mae["mae"]], strict=True))


def test_preset_of_pysodmetrics(files):
    (result,) = score({"good": files / "good"}, {"gt": files / "gt"}, PRESETS["pysodmetrics"])
    expected = pysodmetrics(files / "good", files / "gt")
    figures = result.scores.figures()
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-10)
    assert result.empty == 1 and len(result.scores) == 6


def test_preset_of_pysodmetrics_on_real_maps(shared_data):
    folder = shared_data / "sod_maps"
    (result,) = score({"maps": folder / "preds"}, {"sod": folder / "masks"}, PRESETS["pysodmetrics"])
    figures = result.scores.figures()
    assert figures["weighted_f"] == pytest.approx(0.5579812753638986, abs=1e-9)
    expected = pysodmetrics(folder / "preds", folder / "masks")
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_default_is_the_metric_classes(files):
    (result,) = score({"good": files / "good"}, {"gt": files / "gt"})
    metrics = saliency_metrics(full=True)
    with pytest.warns(UserWarning, match="left out of Fw"):
        for path in sorted((files / "gt").iterdir()):
            prediction = torch.tensor(read_map(files / "good" / path.name))[None]
            metrics.update(prediction, torch.tensor(read_map(path) > 127)[None])
    expected = {name: value.item() for name, value in metrics.compute().items()}
    assert set(expected) == {name for name in available_measures() if not name.endswith("_cut")}
    assert result.scores.figures() == pytest.approx(expected, abs=1e-10)
    assert math.isnan(result.scores.columns["weighted_f"][4])


def test_everything_is_written(files, capsys):
    run(files, "--preset", "pysodmetrics")
    out = files / "out"
    printed = capsys.readouterr().out
    assert "good" in printed and "6/6" in printed and "stretched to [0, 1]" in printed
    with (out / "scores.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["method"] for row in table] == ["good", "bad"]
    assert float(table[0]["weighted_f"]) > float(table[1]["weighted_f"])
    content = json.loads((out / "scores.json").read_text())
    assert content["conventions"]["normalize"] is True
    assert content["rows"][0]["empty"] == 1
    assert content["rows"][1]["f_max"] == float(table[1]["f_max"])
    assert f"{float(table[0]['weighted_f']):.4f}" in (out / "scores.md").read_text()
    assert "\\toprule" in (out / "scores.tex").read_text()
    with (out / "images_bad_gt.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and np.mean([float(row["mae"]) for row in rows]) == pytest.approx(float(table[1]["mae"]))
    assert Scores.load(out, "images_bad_gt").figures()["e_max"] == float(table[1]["e_max"])
    for name in ("curves_gt.png", "measures_gt.png", "sheet_good_gt.png", "sheet_bad_gt.png"):
        picture = np.asarray(Image.open(out / name).convert("L"))
        assert picture.std() > 10


def test_the_sheet_shows_the_masks_that_were_scored(files, monkeypatch):
    for path in (files / "gt").iterdir():
        grey = read_map(path).copy()
        grey[:4] = 128  # not above the threshold of the preset
        write(files / "gt", path.name, grey)
    shown = []
    monkeypatch.setattr(pictures, "draw_sheet", lambda title, rows: shown.extend(rows) or Figure())
    run(files, "--preset", "pysodmetrics", "--figures", "none")
    assert len(shown) == 4 and all(mask.any() or "4:" in name for row in shown for name, _, mask in row)
    assert not any(mask[:4].any() for row in shown for *_, mask in row)


def test_several_data_sets(files):
    for method in ("good", "bad"):
        for dataset, names in (("one", "012"), ("two", "35")):
            for name in names:
                write(files / "many" / method / dataset, f"{name}.png", read_map(files / method / f"{name}.png"))
                write(files / "truth" / dataset, f"{name}.png", read_map(files / "gt" / f"{name}.png"))
    out = files / "out"
    arguments = ["--pred", f"first={files}/many/good", "--pred", f"second={files}/many/bad", "--figures", "pdf"]
    main([*arguments, "--gt", f"{files}/truth/one", f"{files}/truth/two", "--out", str(out), "--sheet", "0"])
    results = json.loads((out / "scores.json").read_text())["rows"]
    assert [(row["method"], row["dataset"], row["images"]) for row in results] == [
        ("first", "one", "3/3"),
        ("second", "one", "3/3"),
        ("first", "two", "2/2"),
        ("second", "two", "2/2"),
    ]
    assert (out / "curves_one.pdf").read_bytes().startswith(b"%PDF")


def test_missing_and_extra_files_are_named(files, capsys):
    (files / "good" / "2.png").unlink()
    write(files / "good", "left over.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(SystemExit) as stopped:
        run(files)
    assert stopped.value.code == 2
    assert "good on gt: 6 masks, without a map in" in capsys.readouterr().err
    run(files, "--missing", "skip")
    printed = capsys.readouterr().out
    assert "5/6" in printed and "of 6 masks without a map, not averaged, 1: 2" in printed and "1: left over" in printed
    results = json.loads((files / "out" / "scores.json").read_text())["rows"]
    assert results[0]["missing"] == ["2"] and results[0]["extra"] == ["left over"]


def test_other_sizes_are_resized_or_refused(files, capsys):
    for name in "03":
        grey = read_map(files / "bad" / f"{name}.png")
        write(files / "bad", f"{name}.png", grey[::2, ::2])
    run(files)
    assert "bad on gt: 2 maps were resized to their masks" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(files, "--strict")
    message = capsys.readouterr().err
    assert "bad on gt: 2 files:" in message and "0.png has" in message and "3.png has" in message


def test_unreadable_files_are_named(files, capsys):
    (files / "good" / "1.png").write_bytes(b"")
    (files / "gt" / "3.png").write_bytes((files / "gt" / "3.png").read_bytes()[:60])
    with pytest.raises(SystemExit):
        run(files)
    message = capsys.readouterr().err
    assert "1.png: the file is empty" in message and "3.png: cannot be read" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pred", "nowhere", "--gt", "gt"], "nowhere is no folder"),
        (["--pred", "empty", "--gt", "gt"], "holds no image"),
        (["--pred", "double", "--gt", "gt"], "two files of one name"),
        (["--pred", "good", "good", "--gt", "gt"], "two folders are called 'good'"),
    ],
)
def test_unusable_folders(files, capsys, arguments, message):
    (files / "empty").mkdir()
    for name in ("0.png", "0.jpg"):
        write(files / "double", name, np.zeros((4, 4), np.uint8))
    with pytest.raises(SystemExit):
        main([part if part.startswith("--") else str(files / part) for part in arguments])
    assert message in capsys.readouterr().err


DRAWN_NOT = ("--figures", "none", "--sheet", "0")


@pytest.mark.parametrize(
    ("pred", "gt", "message"),
    [
        (["my/net=good"], ["gt"], "none can be called 'my/net'"),
        (["good"], ["my/data=gt"], "none can be called 'my/data'"),
        (["a=good", "a_b=bad"], ["c=gt", "b_c=gt"], "a on b_c and a_b on c would both be written to images_a_b_c.csv"),
    ],
)
def test_names_that_cannot_be_those_of_files_are_refused(files, monkeypatch, capsys, pred, gt, message):
    monkeypatch.chdir(files)
    with pytest.raises(SystemExit) as stop:
        main(["--pred", *pred, "--gt", *gt, *DRAWN_NOT])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and message in said and said.count("\n") == 1 and not (files / "scores").exists()


def test_methods_may_be_called_like_the_files_themselves(files):
    named = [f"{name}={files / method}" for name, method in (("images", "good"), ("curves", "bad"))]
    main(["--pred", *named, "--gt", str(files / "gt"), "--out", str(files / "out"), *DRAWN_NOT])
    for name, method in (("images", "good"), ("curves", "bad")):
        (expected,) = score({name: files / method}, {"gt": files / "gt"})
        found = Scores.load(files / "out", f"images_{name}_gt")
        np.testing.assert_array_equal(found.curves["f"], expected.scores.curves["f"])


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_file_is_no_folder_to_write_to(files, monkeypatch, capsys, out):
    monkeypatch.chdir(files)
    (files / "file").write_bytes(b"mine")
    monkeypatch.setattr("spatialseg.score.score", lambda *_, **__: pytest.fail("scored before it looked"))
    with pytest.raises(SystemExit) as stop:
        run(files, "--out", out)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.startswith(f"spatialseg score: {out} cannot be a folder to write to")
    assert said.count("\n") == 1 and (files / "file").read_bytes() == b"mine"


def test_maps_of_zeros_and_ones_are_refused(files, capsys):
    for path in (files / "good").iterdir():
        write(files / "good", path.name, (read_map(path) > 127).astype(np.uint8))
    with pytest.raises(SystemExit):
        run(files)
    assert "no grey level in 6 maps is above 1" in capsys.readouterr().err


def test_maps_of_8_bits_in_16_are_refused(files, capsys):
    for path in (files / "good").iterdir():
        Image.fromarray(read_map(path).astype(np.uint16)).save(path)
    with pytest.raises(SystemExit):
        run(files)
    assert "no grey level in 6 maps is above 255 (of 65535)" in capsys.readouterr().err


def test_floating_point_maps_are_probabilities(files):
    (expected,) = score({"good": files / "good"}, {"gt": files / "gt"})
    (files / "floats").mkdir()
    for path in (files / "good").iterdir():
        Image.fromarray(read_map(path).astype(np.float32) / 255).save(files / "floats" / f"{path.stem}.tif")
    (found,) = score({"floats": files / "floats"}, {"gt": files / "gt"})
    for name in ("weighted_f", "mae", "s_measure", "iou"):
        assert found.scores.figures()[name] == pytest.approx(expected.scores.figures()[name], abs=1e-6)


def test_masks_of_zeros_and_ones(files):
    for path in (files / "gt").iterdir():
        write(files / "ones", path.name, read_map(path) // 255)
    results = [score({"good": files / "good"}, {"gt": files / folder})[0] for folder in ("gt", "ones")]
    assert results[0].scores.figures() == results[1].scores.figures()


def test_workers_change_nothing(files):
    one, two = (score({"good": files / "good"}, {"gt": files / "gt"}, workers=count)[0] for count in (1, 3))
    assert one.scores.figures() == two.scores.figures() and one.scores.names == two.scores.names


def arguments(files, *names, gt="gt"):
    return ["--pred", *(str(files / name) for name in names), "--gt", str(files / gt), "--out", str(files / "out")]


def test_names_have_prefixes_and_suffixes(files, capsys):
    for path in (files / "good").iterdir():
        (files / "named").mkdir(exist_ok=True)
        (files / "named" / f"x_{path.stem}_sal.png").write_bytes(path.read_bytes())
        write(files / "named", f"x_{path.stem}_edge.png", np.zeros((4, 4), np.uint8))
        write(files / "truth", f"{path.stem}_gt.png", read_map(files / "gt" / path.name))
    drawn_not = ["--figures", "none", "--sheet", "0"]
    affixes = ["--pred-prefix", "x_", "--pred-suffix", "_sal", "--gt-suffix", "_gt"]
    main([*arguments(files, "named", gt="truth"), *affixes, *drawn_not])
    (expected,) = score({"good": files / "good"}, {"gt": files / "gt"})
    found = Scores.load(files / "out", "images_named_truth")
    assert found.names == expected.scores.names and found.figures() == expected.scores.figures()
    with pytest.raises(SystemExit):
        main([*arguments(files, "named", gt="truth"), "--pred-suffix", "_nosuch"])
    assert "named holds no image called …_nosuch" in capsys.readouterr().err


def test_one_yaml_names_methods_and_data_sets(files, capsys):
    for name in "012":
        write(files / "all" / "one", f"{name}_sal.png", read_map(files / "good" / f"{name}.png"))
        write(files / "one", f"{name}.png", read_map(files / "gt" / f"{name}.png"))
    (files / "all" / "six").mkdir()
    for path in (files / "good").iterdir():
        (files / "all" / "six" / f"{path.stem}_sal.png").write_bytes(path.read_bytes())
    config = files / "sets.yaml"
    config.write_text(
        "datasets: {one: one, six: {folder: gt}}\n"
        "methods:\n"
        "  good: {folder: all, suffix: _sal}\n"
        "  other: {one: {folder: all/one, suffix: _sal}, six: bad}\n"
    )
    command = ["--config", str(config), "--out", str(files / "out"), "--figures", "none", "--sheet", "0"]
    main(command)
    rows = json.loads((files / "out" / "scores.json").read_text())["rows"]
    assert [(row["method"], row["dataset"], row["images"]) for row in rows] == [
        ("good", "one", "3/3"),
        ("other", "one", "3/3"),
        ("good", "six", "6/6"),
        ("other", "six", "6/6"),
    ]
    (expected,) = score({"bad": files / "bad"}, {"gt": files / "gt"})
    assert rows[0]["mae"] == rows[1]["mae"] and rows[3]["mae"] == expected.scores.figures()["mae"]
    for text, message in (
        ("datasets: {one: one}", "by name where"),
        ("datasets: {one: one}\nmethods: {good: {folder: all, sufix: _sal}}", "got {'folder': 'all', 'sufix': '_sal'}"),
        ("datasets: {one: one}\nmethods: {good: {oen: all}}", "no data set 'oen', did you mean 'one'?"),
        ("datasets: {one: one, six: gt}\nmethods: {good: {six: good}}", "good has no maps for one, only for six"),
        ("datasets: [", "cannot be read"),
        ("datasets: {one: one}\nmethods: {good: all, good: bad}", "the key 'good' stands twice"),
    ):
        config.write_text(text)
        with pytest.raises(SystemExit):
            main(command)
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--pred", "good", "--config", str(config)])
    assert "with --pred and --gt or with --config" in capsys.readouterr().err


def test_intervals_and_differences_to_one_method(files, capsys):
    (files / "bad" / "0.png").unlink()
    command = [*arguments(files, "good", "bad"), "--missing", "skip", "--figures", "none", "--sheet", "0"]
    main([*command, "--intervals", "--against", "bad"])
    assert "Difference to bad on gt" in capsys.readouterr().out
    figures = {row["method"]: row for row in json.loads((files / "out" / "scores.json").read_text())["rows"]}
    intervals = json.loads((files / "out" / "intervals.json").read_text())["rows"]
    assert len(intervals) == 2 * (len(available_measures()) - 3)  # none for what is cut, which is not taken
    for row in intervals:
        assert row["low"] <= row["value"] <= row["high"]
    mae = {row["method"]: row for row in intervals if row["measure"] == "MAE ↓"}
    rng, values = np.random.default_rng(1), Scores.load(files / "out", "images_good_gt").columns["mae"]
    drawn = np.quantile(rng.choice(values, (40_000, len(values))).mean(axis=1), [0.025, 0.975])
    assert mae["good"]["value"] == figures["good"]["mae"]
    assert [mae["good"]["low"], mae["good"]["high"]] == pytest.approx(drawn, rel=0.02)
    (row,) = (
        each
        for each in json.loads((files / "out" / "differences_gt.json").read_text())["rows"]
        if each["measure"] == "MAE ↓"
    )
    common = [Scores.load(files / "out", f"images_{name}_gt").take(list("12345")) for name in ("good", "bad")]
    assert (row["run"], row["images"]) == ("good", 5)
    assert row["difference"] == pytest.approx(common[0].figures()["mae"] - common[1].figures()["mae"], abs=1e-12)
    with pytest.raises(SystemExit):
        main([*command, "--against", "nobody"])
    assert "--against names one of two methods or more, got 'nobody' of good, bad" in capsys.readouterr().err


def test_each_method_is_held_against_the_first_on_the_images_that_both_have(files, capsys):
    write(files / "few", "3.png", read_map(files / "bad" / "3.png"))
    command = ["--missing", "skip", *DRAWN_NOT, "--against", "good"]
    main([*arguments(files, "few", "good", "bad"), *command])
    rows = json.loads((files / "out" / "differences_gt.json").read_text())["rows"]
    main([*arguments(files, "good", "bad"), *command])
    alone = json.loads((files / "out" / "differences_gt.json").read_text())["rows"]
    assert [row for row in rows if row["run"] == "bad"] == alone and {row["images"] for row in alone} == {6}
    assert {row["images"] for row in rows if row["run"] == "few"} == {1}
    capsys.readouterr()
    write(files / "other", "4.png", read_map(files / "bad" / "4.png"))
    with pytest.raises(SystemExit):
        main([*arguments(files, "other", "good", "few"), "--missing", "skip", *DRAWN_NOT, "--against", "few"])
    assert "few and other have no image of gt in common" in capsys.readouterr().err
