"""Trainings of seconds, through the command line."""

import contextlib
import io
from pathlib import Path

from spatialseg.cli import main
from spatialseg.run.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("saliency_*.yaml"))
SEMANTIC = sorted(path.stem for path in (ROOT / "experiments").glob("semantic_*.yaml"))


def configs(experiment: str) -> list[str]:
    files = ("base.yaml", f"{experiment}.yaml")
    return [part for name in files for part in ("--config", str(ROOT / "experiments" / name))]


def runs_below(runs: Path) -> set[Path]:
    return set(runs.glob("*/*/seed*/*"))


def fit(experiment: str, overlay: list[str], runs: Path, *arguments: str) -> tuple[RunFolder, str]:
    """Train, and return the new run folder with what was printed."""
    known = runs_below(runs)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        main(["fit", *configs(experiment), *overlay, "--runs", str(runs), "--seed_everything", "3", *arguments])
    (run,) = runs_below(runs) - known
    return RunFolder(run), shown.getvalue()
