"""What README, Makefile, pyproject.toml and environment.yml say has to be one story."""

import json
import re
import subprocess
from importlib.metadata import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def make(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_python_versions_agree():
    required = metadata("spatialseg")["Requires-Python"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    (python,) = (
        Requirement(each) for each in conda["dependencies"] if isinstance(each, str) and each.startswith("python")
    )
    assert SpecifierSet(required) == python.specifier
    lowest = re.fullmatch(r">=(\d+\.\d+)", required).group(1)
    assert f"Python ≥ {lowest}" in README
    assert f"({lowest.replace('.', ', ')})" in (ROOT / "Makefile").read_text()


def test_conda_installs_the_package_with_its_development_tools():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert conda["name"] == metadata("spatialseg")["Name"]
    assert {"pip": ["-e .[dev]"]} in conda["dependencies"]
    assert "dev" in metadata("spatialseg").get_all("Provides-Extra")


def test_malicious_lightning_wheels_are_excluded():
    lightning = next(
        requirement
        for requirement in map(Requirement, metadata("spatialseg").get_all("Requires-Dist"))
        if requirement.name == "lightning"
    )
    assert "2.6.1" in lightning.specifier or "2.6.4" in lightning.specifier
    assert not any(version in lightning.specifier for version in ("2.6.2", "2.6.3", "2.5.0"))


def test_make_alone_prints_every_target():
    shown = make().stdout
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets and all(re.search(rf"^  make {target} +\S", shown, re.MULTILINE) for target in targets)
    assert "saliency_wfb" in shown and "ecssd" in shown


def test_make_train_lists_what_there_is():
    for arguments, known in ((["EXP=nosuch"], "saliency_wfb"), (["DATA=nosuch"], "ecssd")):
        done = make("train", *arguments)
        assert done.returncode != 0 and "nosuch" in done.stdout and known in done.stdout


def test_make_refuses_variables_that_it_does_not_know():
    for mistyped in ("exp=saliency_wfb", "SED=1"):
        done = make("help", mistyped)
        assert done.returncode == 2 and mistyped.partition("=")[0] in done.stderr and "EXP DATA SEED" in done.stderr
    assert make("help", "EXP=saliency_bce", "ARGS=--trainer.max_epochs=2 --x=y").returncode == 0


def test_every_experiment_opens_with_its_command_runtime_and_result():
    for path in (ROOT / "experiments").glob("*.yaml"):
        if path.stem == "base":
            continue
        header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
        assert f"make train EXP={path.stem}" in header
        assert "minutes" in header and "weighted F" in header


def test_readme_names_only_commands_and_files_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b", README)) <= targets
    for experiment in re.findall(r"EXP=(\w+)", README):
        assert (ROOT / "experiments" / f"{experiment}.yaml").is_file()
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def result_rows() -> list[str]:
    """Write the README's table from the records of finished runs; a bold value is the better one on its data."""
    records = [json.loads(path.read_text()) for path in sorted((ROOT / "experiments" / "results").glob("*.json"))]
    records.sort(key=lambda record: (record["data"] != "shapes", record["experiment"] != "saliency_bce"))
    rows = []
    for record in records:
        cells = [record["experiment"], record["data"]]
        rivals = [other["measures"] for other in records if other["data"] == record["data"]]
        for name, best in (("weighted_f", max), ("weighted_f_cut", max), ("mae", min), ("iou", max)):
            value = record["measures"][f"test/{name}"]
            best_of = best(rival[f"test/{name}"] for rival in rivals)
            bold = "**" if len(rivals) > 1 and value == best_of else ""
            cells.append(f"{bold}{value:.3f}{bold}")
        overlay = "" if record["data"] == "shapes" else f" DATA={record['data']}"
        rows.append(f"| {' | '.join(cells)} | `make train EXP={record['experiment']}{overlay}` |")
    return rows


def test_readme_and_experiments_quote_the_records():
    assert "\n".join(result_rows()) in README
    for path in (ROOT / "experiments" / "results").glob("*.json"):
        record = json.loads(path.read_text())
        values = [f"{record['measures'][f'test/{name}']:.3f}" for name in ("weighted_f", "mae", "iou")]
        line = "weighted F {}, MAE {}, IoU {}".format(*values)
        assert line in (ROOT / "experiments" / f"{record['experiment']}.yaml").read_text()


def figure_rows() -> list[str]:
    """Write the README's table of figures from the records of the benchmarks."""
    measures, losses, fidelity, train, growth, soak = (
        json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
        for name in ("measures", "losses", "fidelity_ecssd", "train", "growth", "soak")
    )
    ratios = {record["name"]: record.get("ratio") for record in measures["records"]}
    weighted, adaptive = losses["weighted_f"], losses["locally_adaptive"]
    dice, ce = weighted["times"]["dice (SMP)"]["ms"], adaptive["times"]["cross-entropy"]["ms"]
    local = fidelity["rows"]["local"]
    rows = [
        ("weighted F of a 384² map, one thread", f"{ratios['weighted F 384²']:.1f}× as fast as PySODMetrics"),
        ("weighted F of a 1024² map, one thread", f"{ratios['weighted F 1024²']:.1f}× as fast as PySODMetrics"),
        (
            "the same on masks of photographs, as in training: float32, int64, stretched",
            f"{ratios['weighted F, 8 photographs 384², float32']:.1f}× at 384², "
            f"{ratios['weighted F, 8 photographs 1024², float32']:.1f}× at 1024²",
        ),
        (
            "`score`, 300 maps, all measures, reading included",
            f"{ratios['score 300 files, 1 worker(s)']:.1f}× as fast with one worker, "
            f"{ratios['score 300 files, 2 worker(s)']:.1f}× with two",
        ),
        ("`wfb` at 8×352², distance given", f"{weighted['times']['wfb, distance given']['ms'] / dice:.2f}× SMP's Dice"),
        (
            "`wfb` with its distance, beside a U-Net's training step",
            f"{weighted['times']['wfb']['ms'] / weighted['step_ms']:.1%}",
        ),
        (
            "`lal` at 2×21×321², windows of 3, 5, 7",
            ", ".join(f"{adaptive['times'][f'lal, r = {side}']['ms'] / ce:.1f}" for side in (3, 5, 7))
            + "× cross-entropy",
        ),
        ("the same, memory", f"{adaptive['memory']['lal, r = 3']:.1f}× the logits, cross-entropy 3.0×"),
        (
            "1 − `wfb` against the exact measure, 300 photographs × 6 stages of a training",
            f"{local['mean_difference']:.4f} apart on average, Kendall's τ {local['tau_images']:.3f}",
        ),
        (
            "a training, beside a bare loop of PyTorch; its loader by itself",
            f"{train['share_of_the_bare_loops_speed']['median']:.2f}× as fast; "
            f"{train['images_per_second']['ratio']:.0f}× what training takes",
        ),
        (
            "from the command to the first step, with 1000 and 100,000 pairs, checked before",
            f"{growth['pairs']['1000']['start_seconds']} s, {growth['pairs']['100000']['start_seconds']} s",
        ),
        (
            "memory that a training does not give back",
            f"{soak['memory_slope_mb_per_hour']:+.1f} MB an hour, over {soak['hours']:.1f} hours",
        ),
    ]
    return [f"| {what} | {figure} |" for what, figure in rows]


def test_readme_quotes_the_benchmarks():
    assert "\n".join(figure_rows()) in README


def test_readme_drop_in_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[:1]
    exec(compile(example, "README.md", "exec"), {})
