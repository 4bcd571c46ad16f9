"""Tables of evidence: what is run, what is kept, and that documents quote the records."""

import importlib.util
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from scipy.ndimage import distance_transform_edt
from scipy.stats import permutation_test

import spatialseg
from spatialseg import evidence
from spatialseg.data import SegmentationDataModule, SloppyMasks
from spatialseg.evidence import EvidenceError, EvidenceRun, TableSpec, main, make, runs_of
from spatialseg.functional import weighted_f_measure
from spatialseg.report.evidence import classes_table, networks_table, ranking, table_of, ways_table
from spatialseg.report.statistics import Arm
from spatialseg.run.folder import RunFolder
from spatialseg.run.signals import SIGNALS
from spatialseg.scores import Measure, Scores
from spatialseg.tables import QUOTED, documents, figures_of, read_arms, read_records, tables_of, write_tables
from trained import make_run

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1},
    "model": {"encoder": "resnet18", "encoder_weights": None},
    "data": {"size": 64, "eval_size": 64, "batch_size": 4, "source": {"init_args": {"train": 8, "val": 3, "test": 3}}},
    "maps": False,
}
SPEC = {
    "title": "Tiny",
    "data": ["shapes"],
    "seeds": [0, 1],
    "baseline": "bce",
    "learning_rates": [0.001, 0.003],
    "shared": SMALL,
    "arms": {"bce": {"model": {"loss": [{"name": "bce"}]}}, "wfb": {"model": {"loss": [{"name": "wfb"}]}}},
    "few_seeds": ["wfb"],
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Make a project whose one table is tiny, and work in it."""
    (tmp_path / "experiments" / "tables").mkdir(parents=True)
    for name in ("base.yaml", "data"):
        (tmp_path / "experiments" / name).symlink_to(ROOT / "experiments" / name)
    (tmp_path / "experiments" / "tables" / "tiny.yaml").write_text(yaml.safe_dump(SPEC))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scores(seed: int, gain: float) -> Scores:
    rng = np.random.default_rng(seed)
    names = [f"{place:03d}" for place in range(40)]
    values = np.clip(rng.normal(0.7 + gain, 0.05, 40), 0, 1)
    measures = (Measure("weighted_f", "Fw"), Measure("weighted_f_cut", "Fw cut"), Measure("mae", "MAE", "lower"))
    columns = {"foreground": np.full(40, 0.3), "weighted_f": values, "weighted_f_cut": values, "mae": 1 - values}
    curves = {"weighted_f": np.repeat(values[:, None], 3, axis=1)}
    return Scores(names, columns, curves, measures, {"cuts": [0.25, 0.5, 0.75]})


def write_record(run: evidence.EvidenceRun, gain: float = 0.0, validated: float = 0.5) -> None:
    run.record.mkdir(parents=True)
    if run.rate is None:
        scores(run.seed, gain).save(run.record)
    summary = {"measures": {"test/weighted_f": 0.7}, "validation": {"weighted_f_cut": validated, "weighted_f": 0.4}}
    (run.record / "summary.json").write_text(json.dumps(summary))


def test_every_table_of_the_project_can_be_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    tables = sorted((ROOT / "experiments" / "tables").glob("*.yaml"))
    assert tables
    for path in tables:
        spec = TableSpec.read(path.stem)
        records = [run.record for run in spec.runs()]
        assert records and len(set(records)) == len(records)


def test_runs_come_in_the_order_of_their_worth(project):
    runs = [(run.arm, run.rate, run.seed) for run in runs_of([TableSpec.read("tiny")])]
    bce, wfb = ([(arm, rate, evidence.TUNING_SEED) for rate in (0.001, 0.003)] for arm in ("bce", "wfb"))
    assert runs == [*bce, ("bce", None, 0), ("bce", None, 1), *wfb, ("wfb", None, 0), ("wfb", None, 1)]
    Path("experiments/tables/tiny.yaml").write_text(yaml.safe_dump(SPEC | {"few_seeds": []}))
    runs = [(run.arm, run.rate, run.seed) for run in runs_of([TableSpec.read("tiny")])]
    assert runs == [*bce, *wfb, ("bce", None, 0), ("wfb", None, 0), ("bce", None, 1), ("wfb", None, 1)]
    Path("experiments/tables/tiny.yaml").write_text(yaml.safe_dump(SPEC | {"few_seeds": ["wfb", "bce"]}))
    runs = [(run.arm, run.rate, run.seed) for run in runs_of([TableSpec.read("tiny")])]
    assert runs == [*wfb, *bce, ("wfb", None, 0), ("wfb", None, 1), ("bce", None, 0), ("bce", None, 1)]


def test_a_table_can_be_like_another_and_candidates_are_only_tuned(project):
    also = {"title": "Also", "like": "tiny", "seeds": [3], "candidates": ["wfb"]}
    Path("experiments/tables/also.yaml").write_text(yaml.safe_dump(also))
    spec = TableSpec.read("also")
    assert (spec.name, spec.title, spec.shared, spec.arms) == ("also", "Also", SPEC["shared"], SPEC["arms"])
    assert [(run.arm, run.rate, run.seed) for run in runs_of([spec])][-3:] == [
        ("bce", None, 3),
        *(("wfb", rate, evidence.TUNING_SEED) for rate in (0.001, 0.003)),
    ]


def test_a_table_can_take_some_arms_of_another(project):
    also = {"title": "Also", "like": "tiny", "arms": ["bce"]}
    Path("experiments/tables/also.yaml").write_text(yaml.safe_dump(also))
    assert TableSpec.read("also").arms == {"bce": SPEC["arms"]["bce"]}
    assert TableSpec.read("also").few_seeds == []  # it has not got the one that the other table says it of
    Path("experiments/tables/also.yaml").write_text(yaml.safe_dump(also | {"arms": ["bce", "dice"]}))
    with pytest.raises(EvidenceError, match=r"also\.yaml: the table that it is like has no arm dice"):
        TableSpec.read("also")


def test_an_arm_can_be_that_of_another_table(project):
    also = {**SPEC, "title": "Also", "seeds": [0], "learning_rates": [], "few_seeds": []}
    also["arms"] = {"plain": "tiny/bce", "wfb": SPEC["arms"]["wfb"]}
    also["baseline"] = "plain"
    Path("experiments/tables/also.yaml").write_text(yaml.safe_dump(also))
    tiny, spec = TableSpec.read("tiny"), TableSpec.read("also")
    shared, own = spec.runs()
    assert shared in list(tiny.runs()) and own.record == Path("experiments/results/also/shapes/wfb/seed0")
    assert len(runs_of([tiny, spec])) == len(runs_of([tiny])) + 1  # it is made once
    for run in (*tiny.runs(), own):
        write_record(run)
    arms = read_records().trained["also/shapes"][2]
    assert {name: list(arm.seeds) for name, arm in arms.items()} == {"plain": [0], "wfb": [0]}  # as the table asks for
    also["arms"] = {"plain": "tiny/bce"}
    Path("experiments/tables/also.yaml").write_text(yaml.safe_dump(also))
    shutil.rmtree("experiments/results/also")  # it makes no run of its own, and is tabled all the same
    assert list(read_records().trained["also/shapes"][2]) == ["plain"]
    also["arms"]["plain"] = "tiny/dice"
    Path("experiments/tables/also.yaml").write_text(yaml.safe_dump(also))
    with pytest.raises(EvidenceError, match=r"also\.yaml: there is no arm 'tiny/dice'"):
        TableSpec.read("also")


def test_the_rate_is_the_best_on_validation(project):
    spec = TableSpec.read("tiny")
    tuning, final = list(spec.runs())[:2], list(spec.runs())[4]
    with pytest.raises(EvidenceError, match=r"rate0\.001, of the rate 0\.001, is missing"):
        final.chosen_rate()
    for run, validated in zip(tuning, (0.5, 0.6), strict=True):
        write_record(run, validated=validated)
    assert final.chosen_rate() == 0.003
    command = final.command(Path("runs"))
    written = yaml.safe_load(Path(command[-5]).read_text())
    assert written["model"] == {"loss": [{"name": "bce"}], "learning_rate": 0.003}
    assert command[-4:] == ["--seed_everything", "0", "--runs", "runs"]


def test_a_run_is_made_once_and_its_record_kept(project, capsys):
    spec = TableSpec.read("tiny")
    for run in list(spec.runs())[:4]:
        write_record(run)
    make([spec], Path("runs"), limit=1, jobs=2)
    assert "tiny-bce on shapes, seed 0:" in capsys.readouterr().out
    kept = read_arms(spec, "shapes")["bce"]
    (folder,) = Path("runs/tiny-bce/shapes/seed0").iterdir()
    assert RunFolder(folder).wandb.is_dir()  # beside it, wherever W&B's service was started
    measures = json.loads((folder / "summary.json").read_text())["measures"]
    for name, value in kept.seeds[0].figures().items():
        assert value == pytest.approx(measures[f"test/{name}"], abs=1e-4)
    assert measures["test/weighted_f_cut"] is not None
    before = (Path("experiments/results/tiny/shapes/bce/seed0") / "images.csv").stat().st_mtime_ns
    main(["tiny", "--plan"])
    shown = capsys.readouterr().out.splitlines()
    missing = [line.partition(":")[0] for line in shown if line.endswith("missing")]
    assert missing == ["tiny-bce on shapes, seed 1", "tiny-wfb on shapes, seed 0", "tiny-wfb on shapes, seed 1"]
    assert (Path("experiments/results/tiny/shapes/bce/seed0") / "images.csv").stat().st_mtime_ns == before


def test_tables_share_one_queue_in_which_seeds_wait_for_their_rates(project, monkeypatch):
    Path("experiments/tables/also.yaml").write_text(yaml.safe_dump({"title": "Also", "like": "tiny", "seeds": [7]}))
    specs = [TableSpec.read(name) for name in ("tiny", "also")]
    order: list[EvidenceRun] = []

    def train(run, runs, running):
        if run.rate is None:
            run.chosen_rate()  # fails where a rate is missing
        time.sleep(0.05 * (run.rate is not None))
        write_record(run)
        order.append(run)

    monkeypatch.setattr(evidence, "_make_one", train)
    make(specs, Path("runs"), jobs=6)
    assert len(order) == 14
    assert all(run.done for spec in specs for run in spec.runs())


TRAINING = """
import pathlib, signal, sys, time
note = pathlib.Path(sys.argv[1])
def stop(signum, frame):
    note.write_text(str(signum))
    sys.exit(128 + signum)
signal.signal(signal.SIGTERM, stop)
note.touch()
time.sleep(60)
"""


def test_a_signal_goes_to_the_trainings_and_what_they_finished_is_kept(project, monkeypatch, capsys):
    """Trainings that wait for a signal stand for real ones, whose answer to it tests/run/test_resume.py is about."""
    spec, write = TableSpec.read("tiny"), EvidenceRun.command
    notes = [project / f"{arm}-{rate}" for arm in spec.arms for rate in spec.learning_rates]
    first = next(spec.runs())

    def pretend(run, runs):
        write(run, runs)
        return [sys.executable, "-c", TRAINING, str(project / f"{run.arm}-{run.rate}")]

    def stop_when_two_train():
        while not all(note.exists() for note in notes[:2]):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(EvidenceRun, "command", pretend)
    handlers = [signal.getsignal(signum) for signum in SIGNALS]
    threading.Thread(target=stop_when_two_train).start()
    with pytest.raises(SystemExit) as stopped:
        make([spec], Path("runs"), jobs=2)
    assert stopped.value.code == 128 + signal.SIGTERM and "Stopping" in capsys.readouterr().out
    assert [note.read_text() for note in notes if note.exists()] == ["15", "15"]
    assert [signal.getsignal(signum) for signum in SIGNALS] == handlers

    monkeypatch.setattr(EvidenceRun, "command", lambda run, runs: write(run, runs) and ["false"])
    summary = {"finished": True, "validation": {"weighted_f": 0.4, "weighted_f_cut": 0.5}}
    RunFolder.make("runs", first.experiment, "shapes", first.seed).write_summary(summary)
    make([spec], Path("runs"), limit=1)
    assert first.summary()["validation"] == summary["validation"]
    shutil.rmtree(first.record)
    Path("experiments/tables/tiny.yaml").write_text(yaml.safe_dump(SPEC | {"shared": {**SMALL, "maps": True}}))
    with pytest.raises(EvidenceError, match=r"tiny-bce-rate0\.001 on shapes stopped with status 1"):
        make([TableSpec.read("tiny")], Path("runs"), limit=1)  # whose settings are others now


def test_tables_and_documents_follow_from_the_records(project):
    spec = TableSpec.read("tiny")
    for run in spec.runs():
        write_record(run, 0.1 * (run.arm == "wfb"))
    place = "Before.\n<!-- evidence: tiny/shapes -->\nold\n<!-- end -->\nAfter.\n"
    for document in ("README.md", "experiments/README.md"):
        Path(document).write_text(place)
    write_tables()
    text = Path("README.md").read_text()
    arms = read_arms(spec, "shapes")
    assert table_of(arms, "bce", f"Tiny: {len(scores(0, 0).names)} test images").markdown() in text
    assert text.startswith("Before.\n") and text.endswith("After.\n") and "old" not in text
    figures = [[scores(seed, gain).figures()["weighted_f"] for seed in (0, 1)] for gain in (0, 0.1)]
    gain = np.diff(np.mean(figures, axis=1))[0]
    assert f"{gain:+.3f} [" in text
    for picture in ("dots", "reliability"):
        assert Path(f"experiments/results/tiny/shapes/{picture}.png").stat().st_size > 5000
    dots, curves = (
        figures_of(read_records())[Path("experiments/results/tiny/shapes") / f"{name}.png"].axes[0]
        for name in ("dots", "reliability")
    )
    assert [label.get_text() for label in dots.get_yticklabels()] == ["bce", "wfb"]
    assert [label.get_text() for label in curves.get_legend().get_texts()] == ["bce"]  # the other has few seeds


def test_what_the_recipe_gains_is_tabled_and_drawn(project):
    Path("experiments/tables/tiny.yaml").write_text(yaml.safe_dump(SPEC | {"recipe": "wfb"}))
    for run in TableSpec.read("tiny").runs():
        write_record(run, 0.1 * (run.arm == "wfb"))
    Path("README.md").write_text("<!-- evidence: tiny/shapes/gains -->\n<!-- end -->\n")
    Path("experiments/README.md").write_text("<!-- evidence: tiny/shapes -->\n<!-- end -->\n")
    assert Path("experiments/results/tiny/shapes/gains.png") in write_tables()
    (gain,) = re.findall(r"\| bce \| (\+\d\.\d{3} \[.*?\]) \|", Path("README.md").read_text())
    assert gain in Path("experiments/README.md").read_text()  # the same difference as in the table of arms


def test_how_sure_a_gain_is_is_tabled(project):
    """Against scipy's permutation test, and a count of all images and pairs of seeds."""
    Path("experiments/tables/tiny.yaml").write_text(yaml.safe_dump(SPEC | {"recipe": "wfb"}))
    for run in TableSpec.read("tiny").runs():
        write_record(run, 0.01 * (1 + run.seed) * (run.arm == "wfb"))
    tables = tables_of(read_records())
    (row,) = tables["tiny/shapes/significance"].rows
    bce, wfb = ([scores(seed, gain * (1 + seed)) for seed in (0, 1)] for gain in (0, 0.01))
    figures = [[each.figures()["weighted_f"] for each in arm] for arm in (bce, wfb)]
    flips = permutation_test(figures, lambda *arms: np.mean(arms[1]) - np.mean(arms[0]), permutation_type="samples")
    assert row["arm"] == "bce" and row["seeds"] == 2 and row["weighted_f p"] == flips.pvalue
    pairs = [np.sign(b.columns["weighted_f"] - a.columns["weighted_f"]) for a in bce for b in wfb]
    assert row["weighted_f better"] == pytest.approx(np.mean(pairs) / 2 + 0.5) and 0.5 < np.mean(pairs) / 2 + 0.5 < 1
    with_seeds, images_alone = (
        [float(figure) for figure in re.findall(r"[+-]\d\.\d+", tables[f"tiny/shapes/{name}"].rows[0]["weighted_f"])]
        for name in ("gains", "gains-of-images")
    )
    assert with_seeds == [0.015, 0.01, 0.02]  # each seed gains the same on all of its images
    assert images_alone == pytest.approx([0.015] * 3, abs=1e-3)


def test_unknown_tables_and_arms_are_named(project, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["tin"])
    assert stopped.value.code == 2 and "there is no table 'tin'" in capsys.readouterr().err
    Path("experiments/tables/tiny.yaml").write_text(yaml.safe_dump(SPEC | {"baseline": "ce"}))
    with pytest.raises(EvidenceError, match="no arm 'ce' among bce, wfb"):
        TableSpec.read("tiny")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"like": "tinny"}, r"no table 'tinny', which 'also' is like, in experiments.tables, did you mean 'tiny'\?"),
        ({"like": "also"}, "in a circle: also → also"),
        (SPEC | {"arms": ["bce"]}, "has no arm bce"),
        (SPEC | {"arms": "bce"}, "must be settings by name"),
        ({"like": "tiny", "arms": {"bce": "also/bce"}, "baseline": "bce"}, "in a circle: also → also"),
        ({"like": "tiny", "data": ["shape"]}, "no data set 'shape'"),
        ({"like": "tiny", "chosen_by": "IoU"}, "no measure 'IoU' to choose rates by"),
        ({"like": "tiny", "seed": [0]}, r"got an unexpected keyword argument 'seed'"),
        ([], "must hold settings"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(project, other, message):
    Path("experiments/tables/also.yaml").write_text(yaml.safe_dump(other))
    with pytest.raises(EvidenceError, match=message):
        TableSpec.read("also")


def test_a_table_may_be_like_one_whose_arms_are_of_another(project):
    for name, content in {
        "also": {"like": "tiny", "arms": ["wfb"], "baseline": "wfb"},
        "third": {"like": "also"},
    }.items():
        Path(f"experiments/tables/{name}.yaml").write_text(yaml.safe_dump(content))
    assert [*TableSpec.read("third").arms] == ["wfb"]


def test_documents_quote_the_records(monkeypatch):
    monkeypatch.chdir(ROOT)
    records = read_records()
    known = tables_of(records)
    text = "".join(path.read_text() for path in (Path("README.md"), Path("experiments/README.md")))
    places = {place[2]: place[0] for place in QUOTED.finditer(text)}
    assert {*records.trained, *(name for name in known if name.startswith("rescored/"))} <= places.keys()
    for name in places.keys() - known.keys():
        assert "|" not in places[name], f"there are no records of {name}, whose figures a document quotes"
    for path, filled in documents(known).items():
        assert path.read_text() == filled, f"{path} does not say what the records do: make tables"


def arm(name: str, level: float) -> Arm:
    return Arm(name, {seed: scores(seed, level) for seed in (0, 1)}, resamples=50)


def test_the_network_that_cross_entropy_needs_is_the_fastest_that_is_as_good():
    levels = {
        "bce-s": 0.0,
        "bce-m": 0.1,
        "bce-l": 0.12,
        "structure-to-wfb-s": 0.09,
        "structure-to-wfb-m": 0.11,
        "structure-to-wfb-l": 0.2,
    }
    sizes = {name: {"parameters": 2e6, "ms": {"s": 10, "m": 20, "l": 50}[name[-1]]} for name in levels}
    rows = networks_table({name: arm(name, level) for name, level in levels.items()}, sizes, "").rows
    assert [row["network"] for row in rows] == ["s", "m", "l"]
    assert [row["match weighted_f"] for row in rows] == ["m, 2.0× the time", "l, 2.5× the time", "none"]


def test_a_ranking_is_compared_pair_by_pair():
    clean, sloppy = [0.1, 0.4, 0.2, 0.9, 0.5], [0.2, 0.3, 0.1, 0.6, 0.7]
    record = {
        f"run{place}": {"clean": {"iou": one, "mae": 1 - one}, "shifted": {"iou": other, "mae": 1 - one}}
        for place, (one, other) in enumerate(zip(clean, sloppy, strict=True))
    }
    pairs = [(i, j) for i in range(5) for j in range(i)]
    agree = sum((clean[i] - clean[j]) * (sloppy[i] - sloppy[j]) > 0 for i, j in pairs)
    expected = (2 * agree - len(pairs)) / len(pairs)
    assert ranking(record) == {"iou": {"shifted": pytest.approx(expected)}, "mae": {"shifted": pytest.approx(1)}}


def script(name: str) -> ModuleType:
    """Import a script of experiments/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_images_are_chosen_by_rule():
    gains = np.random.default_rng(0).permutation(np.arange(101.0))
    chosen = script("photographs").by_rule(np.append(gains, np.nan))
    found = {name: gains[place] for name, place in chosen.items()}
    assert found == {"worst": 0, "10th percentile": 10, "50th percentile": 50, "90th percentile": 90}


def test_classes_are_tabled_each():
    rng = np.random.default_rng(0)
    columns = {f"{part}/{name}": rng.integers(1, 9, 5) * 1.0 for part in ("intersection", "union") for name in "ab"}
    measure = Measure("iou", "IoU", "higher", "data set", ("intersection", "union"))
    found = Scores([str(place) for place in range(5)], {"iou": np.ones(5), **columns}, {}, (measure,), {})
    rows = classes_table({"ce": Arm("ce", {0: found})}, "").rows
    expected = [columns[f"intersection/{name}"].sum() / columns[f"union/{name}"].sum() for name in "ab"]
    assert [(row["class"], row["iou ce"]) for row in rows] == [("a", expected[0]), ("b", expected[1])]


def test_figures_of_networks_labels_and_windows_follow_from_their_records(project):
    """Every table of the project whose figures are its own, with two arms each and records of numbers drawn."""
    shared = {"like": "tiny", "title": "T", "seeds": [0], "learning_rates": []}
    arms = {"networks": ["bce-s", "structure-to-wfb-s"], "labels": ["bce-clean", "bce-shifted"]}
    for name, names in arms.items():
        table = {**shared, "arms": {each: {} for each in names}, "baseline": names[0], "few_seeds": []}
        Path(f"experiments/tables/{name}.yaml").write_text(yaml.safe_dump(table))
        for run in TableSpec.read(name).runs():
            write_record(run, 0.1 * (run.arm == names[1]))
    windows = {
        **shared,
        "arms": {"window-1-k-1": {}, "window-3-k-2-all": {}, "window-3-k-2": {}},
        "learning_rates": [0.1],
    }
    Path("experiments/tables/windows.yaml").write_text(
        yaml.safe_dump({**windows, "baseline": "window-1-k-1", "few_seeds": [], "seeds": []})
    )
    stages = {**windows, "arms": {"bce": {}}, "baseline": "bce", "few_seeds": [], "seeds": []}
    Path("experiments/tables/stages.yaml").write_text(yaml.safe_dump(stages))
    for run in [*TableSpec.read("windows").runs(), *TableSpec.read("stages").runs()]:
        run.record.mkdir(parents=True)
        (run.record / "summary.json").write_text(json.dumps({"validation": {"iou": 0.4, "weighted_f": 0.3}}))
    sizes = {each: {"parameters": 4e6, "ms": 30.0} for each in arms["networks"]}
    figures = {"weighted_f": 0.5, "mae": 0.1}
    filtered = {way: {**figures, "weighted_f_cut": 0.6} for way in ("as it is", "filtered")}
    two = {f"x/d/seed{seed}": {"as it is": {**figures, "mae": seed / 10}} for seed in (0, 2)}
    run = {f"x/d/seed{seed}": {"clean": figures, "shifted": {**figures, "mae": seed}} for seed in range(3)}
    for path, record in (
        ("benchmarks/results/networks.json", {"arms": sizes}),
        ("experiments/results/rescored/ranking.json", run),
        ("experiments/results/rescored/filter.json", {"networks-bce-s/shapes/seed0": filtered}),
        ("experiments/results/rescored/windows.json", {"x/d/seed0": {"as it is": figures, "windows of 7": figures}}),
        ("experiments/results/rescored/statistics.json", two),
        ("experiments/results/rescored/cuts.json", {"x/d/seed0": {"as it is": figures, "higher cuts": figures}}),
        ("experiments/results/rescored/mistakes.json", {"x/d/seed0": {"missed": {"from 1 px": 0.2}}}),
        ("experiments/results/rescored/stages.json", {"stages-bce-rate0.1/d/seed0": {"IoU": {"epoch 1": 0.2}}}),
    ):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(record))
    drawn = {path.name: figure for path, figure in figures_of(read_records()).items()}
    assert drawn.keys() == {"dots.png", "reliability.png", "networks.png", "labels.png", "curves.png", "stages.png"}
    hollow = [
        [line.get_ydata()[0] for line in axis.lines if line.get_markerfacecolor() == "white"]
        for axis in drawn["networks.png"].axes
    ]
    assert hollow == [[0.5], [0.6]] * 2  # of the one network that was filtered, both measures over both scales
    rescored = {f"rescored/{what}" for what in script("rescore").WAYS}
    tables = tables_of(read_records())
    assert {"networks/shapes/sizes", "windows/rates", *rescored} <= tables.keys()
    (spread,) = tables["rescored/statistics"].rows
    assert (spread["weighted_f"], spread["mae"]) == ("0.500 ± 0.000", "0.100 ± 0.141")


def test_of_maps_before_and_after_those_measures_are_shown_that_all_have():
    more, less = {"weighted_f": 0.5, "iou": 0.4, "iou_cut": 0.3}, {"weighted_f": 0.7, "iou": 0.5}
    of_both = ways_table({"x/d/seed0": {"filtered": more}, "x/d/seed1": {"filtered": less}})
    of_each = ways_table({"x/d/seed0": {"filtered": more}, "y/d/seed0": {"filtered": less}})
    for table, means in ((of_both, [0.6]), (of_each, [0.5, 0.7])):
        assert [column.key for column in table.columns] == ["run", "seeds", "way", "weighted_f", "iou"]
        assert [row["weighted_f"] for row in table.rows] == pytest.approx(means)


def run_on_scenes(folder: Path, **scenes: int | str) -> RunFolder:
    """Make a run whose data are procedural scenes."""
    run = make_run(folder, classes=7 if scenes.get("variant") == "multiclass" else 1)
    settings = yaml.safe_load(run.config.read_text())
    source = {"class_path": "spatialseg.data.ProceduralScenes", "init_args": scenes}
    settings["data"] |= {"source": source, "batch_size": 4}
    run.config.write_text(yaml.safe_dump(settings))
    return run


def test_a_network_is_scored_again_on_sloppy_masks_and_by_where_its_mistakes_are(tmp_path):
    rescore = script("rescore")
    run = run_on_scenes(tmp_path, train=2, val=2, test=3)
    shares = dict(rescore.by_distance(run))
    wrong, pixels = dict.fromkeys(shares, 0), dict.fromkeys(shares, 0)
    for sample, probability in rescore.predict(spatialseg.load(run.path), rescore.source_of(run), "val"):
        mask = sample["mask"].numpy() == 1
        distance = np.where(mask, distance_transform_edt(mask), distance_transform_edt(~mask))
        band = (distance >= 4) & (distance < 8)
        errors = (probability >= run.read_summary()["cut"]) != mask
        for kind, region in zip(shares, (mask, ~mask), strict=True):
            pixels[kind] += (region & band).sum()
            wrong[kind] += (errors & region & band).sum()
    for kind, by_band in shares.items():
        assert pixels[kind] > 0
        assert by_band["from 4 px"] == pytest.approx(wrong[kind] / pixels[kind])
    found = dict(rescore.on_sloppy_masks(run))
    samples = rescore.source_of(run).dataset("test")
    model = spatialseg.load(run.path)
    for kind, figures in found.items():
        errors = []
        for place in range(3):
            mask = samples[place]["mask"].as_subclass(torch.Tensor)
            if kind != "clean":
                mask = SloppyMasks(rescore.source_of(run), kind).spoil(mask, place)
            probability = model.probabilities(samples[place]["image"].as_subclass(torch.Tensor))
            errors.append(np.abs(probability - mask.numpy()).mean())
        assert figures["mae"] == pytest.approx(np.mean(errors), abs=1e-6)
    assert list(found) == ["clean", "dilated", "eroded", "polygon", "shifted"]


def test_statistics_are_averaged_over_an_epoch_and_the_threshold_is_chosen_anew(tmp_path):
    rescore = script("rescore")
    run = run_on_scenes(tmp_path, train=8, val=2, test=3)
    data = yaml.safe_load(run.config.read_text())
    scores(0, 0.0).save(run.path)
    found = dict(rescore.with_averaged_statistics(run))
    assert found["as it is"] == scores(0, 0.0).figures()
    module = SegmentationDataModule(rescore.source_of(run), **{k: v for k, v in data["data"].items() if k != "source"})
    model = spatialseg.load(run.path)
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    batches = [batch["image"] for batch in module.train_dataloader()]
    with torch.no_grad():
        model.train()
        for place, batch in enumerate(batches):
            for layer in layers:
                layer.momentum = 1 / (place + 1)
            model(batch)
    validation, test = ([*rescore.predict(model.eval(), rescore.source_of(run), split)] for split in ("val", "test"))
    assert len(batches) == 2
    assert found["averaged"] == rescore.score(test, rescore.tuned(validation)[1]).figures()


def test_the_threshold_is_chosen_among_higher_ones_too(tmp_path):
    rescore = script("rescore")
    run = run_on_scenes(tmp_path, train=2, val=2, test=2)
    scores(0, 0.0).save(run.path)
    model, source = spatialseg.load(run.path), rescore.source_of(run)
    rescore.CUTS = (0.5,)
    maps = {split: rescore.predict(model, source, split) for split in ("val", "test")}
    rescore.HIGHER = tuple(np.quantile(np.concatenate([each.ravel() for _, each in maps["val"]]), (0.1, 0.5, 0.9)))
    found = dict(rescore.with_higher_cuts(run))
    assert found["as it is"] == scores(0, 0.0).figures()

    def mean(split: str, cut: float) -> float:
        each = [
            weighted_f_measure((torch.from_numpy(probability) >= cut)[None].double(), sample["mask"][None].long()).f
            for sample, probability in maps[split]
        ]
        return float(torch.cat(each).nan_to_num().mean())

    best = max(rescore.HIGHER, key=lambda cut: mean("val", cut))
    assert found["higher cuts"]["cut"] == best and mean("val", best) > mean("val", 0.5)
    assert found["higher cuts"]["weighted_f_cut"] == pytest.approx(mean("test", best), abs=1e-6)


def test_the_stages_of_a_training_are_those_of_its_log(tmp_path):
    run = RunFolder(tmp_path)
    run.metrics.write_text(
        "epoch,step,step/loss,train/iou,val/iou,val/weighted_f\n"
        "0,9,0.7,,,\n0,19,,,0.5,0.4\n0,19,,0.6,,\n1,39,,,0.7,0.6\n1,39,,0.8,,\n"
    )
    assert dict(script("rescore").by_epoch(run)) == {
        "training IoU": {"epoch 1": 0.6, "epoch 2": 0.8},
        "IoU": {"epoch 1": 0.5, "epoch 2": 0.7},
        "Fw": {"epoch 1": 0.4, "epoch 2": 0.6},
    }


def test_several_classes_are_read_in_windows(tmp_path):
    """Each pixel takes the mean log-probability of its window, by brute force; the most probable class then counts."""
    rescore = script("rescore")
    run = run_on_scenes(tmp_path, variant="multiclass", train=2, val=2, test=3)
    plain, read = (figures for _, figures in rescore.read_in_windows(run))
    intersection, union = np.zeros((2, 7)), np.zeros((2, 7))
    for sample, probabilities in rescore.predict(spatialseg.load(run.path), rescore.source_of(run), "test"):
        mask = sample["mask"].numpy()
        means = np.empty_like(probabilities)
        for row, column in np.ndindex(mask.shape):
            inside = probabilities[:, max(0, row - 3) : row + 4, max(0, column - 3) : column + 4]
            means[:, row, column] = np.log(inside.astype(np.float64)).mean(axis=(1, 2))
        for place, values in enumerate((probabilities, means)):
            for kind in range(7):
                ours, theirs = values.argmax(axis=0) == kind, mask == kind
                intersection[place, kind] += (ours & theirs & (mask != 255)).sum()
                union[place, kind] += ((ours | theirs) & (mask != 255)).sum()
    expected = np.nanmean(intersection / union, axis=1)
    assert [plain["iou"], read["iou"]] == pytest.approx(expected, abs=1e-3) and expected[0] != expected[1]
    assert read["spurious"] < plain["spurious"]


@pytest.mark.parametrize(
    ("what", "classes", "expected"), [("windows", 1, "several classes"), ("filter", 7, "one class")]
)
def test_what_is_not_asked_of_so_many_classes_is_refused(what, classes, expected, tmp_path, monkeypatch, capsys):
    run = make_run(tmp_path, classes=classes)
    variant = {"variant": "multiclass" if classes > 1 else "binary"}
    source = {"class_path": "spatialseg.data.ProceduralScenes", "init_args": variant}
    run.config.write_text(yaml.safe_dump({"data": {"source": source}}))
    monkeypatch.setattr(sys, "argv", ["rescore.py", what, str(run), "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        script("rescore").main()
    assert f"{what} is of {expected}, {run} of {classes}" in capsys.readouterr().err
