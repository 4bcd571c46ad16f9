"""Tables of evidence: what is run, what is kept, and that documents quote the records."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from spatialseg import evidence
from spatialseg.evidence import EvidenceError, EvidenceRun, TableSpec, main, make
from spatialseg.report.evidence import read_arms, table_of
from spatialseg.scores import Measure, Scores
from spatialseg.tables import documents, read_tables, write_tables

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
    runs = [(run.arm, run.rate, run.seed) for run in TableSpec.read("tiny").runs()]
    rates = [(arm, rate, evidence.TUNING_SEED) for arm in ("bce", "wfb") for rate in (0.001, 0.003)]
    assert runs == [*rates, ("bce", None, 0), ("wfb", None, 0), ("bce", None, 1), ("wfb", None, 1)]


def test_a_table_can_be_like_another_and_candidates_are_only_tuned(project):
    also = {"title": "Also", "like": "tiny", "seeds": [3], "candidates": ["wfb"]}
    Path("experiments/tables/also.yaml").write_text(yaml.safe_dump(also))
    spec = TableSpec.read("also")
    assert (spec.name, spec.title, spec.shared, spec.arms) == ("also", "Also", SPEC["shared"], SPEC["arms"])
    assert [(run.arm, run.rate, run.seed) for run in spec.runs()][-3:] == [
        *(("wfb", rate, evidence.TUNING_SEED) for rate in (0.001, 0.003)),
        ("bce", None, 3),
    ]


def test_a_table_can_take_some_arms_of_another(project):
    also = {"title": "Also", "like": "tiny", "arms": ["bce"], "few_seeds": []}
    Path("experiments/tables/also.yaml").write_text(yaml.safe_dump(also))
    assert TableSpec.read("also").arms == {"bce": SPEC["arms"]["bce"]}
    Path("experiments/tables/also.yaml").write_text(yaml.safe_dump(also | {"arms": ["bce", "dice"]}))
    with pytest.raises(EvidenceError, match=r"also\.yaml: the table that it is like has no arm dice"):
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
    kept = read_arms(Path("experiments/results/tiny/shapes"), ["bce"])["bce"]
    (folder,) = Path("runs/tiny-bce/shapes/seed0").iterdir()
    measures = json.loads((folder / "summary.json").read_text())["measures"]
    for name, value in kept.seeds[0].figures().items():
        assert value == pytest.approx(measures[f"test/{name}"], abs=1e-4)
    assert measures["test/weighted_f_cut"] is not None
    before = (Path("experiments/results/tiny/shapes/bce/seed0") / "images.csv").stat().st_mtime_ns
    main(["tiny", "--plan"])
    shown = capsys.readouterr().out.splitlines()
    assert [line.endswith("missing") for line in shown] == [False] * 5 + [True] * 3
    assert (Path("experiments/results/tiny/shapes/bce/seed0") / "images.csv").stat().st_mtime_ns == before


def test_tables_share_one_queue_in_which_seeds_wait_for_their_rates(project, monkeypatch):
    Path("experiments/tables/also.yaml").write_text(yaml.safe_dump({"title": "Also", "like": "tiny", "seeds": [7]}))
    specs = [TableSpec.read(name) for name in ("tiny", "also")]
    order: list[EvidenceRun] = []

    def train(run, runs):
        if run.rate is None:
            run.chosen_rate()  # fails where a rate is missing
        time.sleep(0.05 * (run.rate is not None))
        write_record(run)
        order.append(run)

    monkeypatch.setattr(evidence, "_make_one", train)
    make(specs, Path("runs"), jobs=6)
    assert len(order) == 14
    assert all(run.done for spec in specs for run in spec.runs())


def test_tables_and_documents_follow_from_the_records(project):
    spec = TableSpec.read("tiny")
    for run in spec.runs():
        write_record(run, 0.1 * (run.arm == "wfb"))
    place = "Before.\n<!-- evidence: tiny/shapes -->\nold\n<!-- end -->\nAfter.\n"
    for document in ("README.md", "experiments/README.md"):
        Path(document).write_text(place)
    write_tables()
    text = Path("README.md").read_text()
    arms = read_arms(Path("experiments/results/tiny/shapes"), ["bce", "wfb"])
    assert table_of(arms, "bce", "Tiny").markdown() in text
    assert text.startswith("Before.\n") and text.endswith("After.\n") and "old" not in text
    figures = [[scores(seed, gain).figures()["weighted_f"] for seed in (0, 1)] for gain in (0, 0.1)]
    gain = np.diff(np.mean(figures, axis=1))[0]
    assert f"{gain:+.3f} [" in text
    for picture in ("dots", "reliability"):
        assert Path(f"experiments/results/tiny/shapes/{picture}.png").stat().st_size > 5000


def test_what_the_recipe_gains_is_tabled_and_drawn(project):
    Path("experiments/tables/tiny.yaml").write_text(yaml.safe_dump(SPEC | {"recipe": "wfb"}))
    for run in TableSpec.read("tiny").runs():
        write_record(run, 0.1 * (run.arm == "wfb"))
    Path("README.md").write_text("<!-- evidence: tiny/shapes/gains -->\n<!-- end -->\n")
    Path("experiments/README.md").write_text("<!-- evidence: tiny/shapes -->\n<!-- end -->\n")
    assert Path("experiments/results/tiny/shapes/gains.png") in write_tables()
    (gain,) = re.findall(r"\| bce \| (\+\d\.\d{3} \[.*?\]) \|", Path("README.md").read_text())
    assert gain in Path("experiments/README.md").read_text()  # the same difference as in the table of arms


def test_unknown_tables_and_arms_are_named(project, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["tin"])
    assert stopped.value.code == 2 and "there is no table 'tin'" in capsys.readouterr().err
    Path("experiments/tables/tiny.yaml").write_text(yaml.safe_dump(SPEC | {"baseline": "ce"}))
    with pytest.raises(EvidenceError, match="no arm 'ce' among bce, wfb"):
        TableSpec.read("tiny")


def test_documents_quote_the_records(monkeypatch):
    monkeypatch.chdir(ROOT)
    for path, text in documents(read_tables()).items():
        assert path.read_text() == text, f"{path} does not say what the records do: make tables"
