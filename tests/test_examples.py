"""The examples are short, run, and learn; those of other houses where these are installed: make test-examples."""

import csv
import re
import runpy
from pathlib import Path

import lightning
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NEEDS = {"huggingface_trainer": "transformers", "monai_loop": "monai"}


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_example(name, tmp_path, monkeypatch, capsys):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not installed; make test-examples runs this one")
    lightning.seed_everything(0, verbose=False)
    monkeypatch.chdir(tmp_path)
    path = EXAMPLES / f"{name}.py"
    assert len(path.read_text().splitlines()) <= 30
    runpy.run_path(str(path), run_name="__main__")
    values = re.findall(r"(?:weighted F|mean IoU|mean_iou)\W+([\d.]+)", capsys.readouterr().out)
    for log in tmp_path.glob("lightning_logs/*/metrics.csv"):
        values = [row["weighted F"] for row in csv.DictReader(log.open())]
    assert len(values) >= 5 and float(values[-1]) > float(values[0]), values
