"""Where a run keeps what: the one place that knows the names of a run folder's files."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from spatialseg.hints import did_you_mean

if TYPE_CHECKING:
    from spatialseg.scores import Scores

TIME = "%Y-%m-%d_%H-%M-%S"


class RunError(ValueError):
    """A run cannot be made, found or used; the message says what was found, what was expected and what to do."""


class RunFolder:
    """The folder of one run: `<runs>/<experiment>/<data>/seed<k>/<time>`.

    Args:
        path: The folder; need not be there yet, and may have been moved: its names then come from its summary.

    Attributes:
        config: The resolved configuration, YAML.
        metrics: Losses and measures over the epochs, CSV.
        images: The scores of the test, a row per image, CSV; of the validation where nothing was tested.
        curves: The same over thresholds, NumPy's npz.
        maps: Folder of the test images' predictions, 8-bit PNG.
        checkpoints: Folder of checkpoints.
        best: The checkpoint that the monitored measure likes best.
        last: The checkpoint to go on from: that of the last complete epoch, or of where the run was stopped.
        previous: The one before.
        pictures: Folder of the pictures of validation images.
        summary: What came out, JSON.
        wandb_id: The id of the W&B run, a line of text.
    """

    def __init__(self, path: str | Path) -> None:
        self.point_to(path)

    def point_to(self, path: str | Path) -> None:
        """Be the folder at another place."""
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.csv"
        self.images = self.path / "images.csv"
        self.curves = self.path / "curves.npz"
        self.maps = self.path / "maps"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / "best.ckpt"
        self.last = self.checkpoints / "last.ckpt"
        self.previous = self.checkpoints / "previous.ckpt"
        self.pictures = self.path / "pictures"
        self.summary = self.path / "summary.json"
        self.wandb_id = self.path / "wandb_id.txt"

    @classmethod
    def make(cls, runs: str | Path, experiment: str, data: str, seed: int, suffix: str = "") -> RunFolder:
        """Make the folder of a new run; no two runs ever share one.

        Args:
            runs: The folder of all runs.
            experiment: Name of the experiment.
            data: Name of the data set.
            seed: Seed of everything random.
            suffix: Appended to the time, such as `_test` for a run that only tests.

        Raises:
            RunError: A name is empty or would lead out of its place, or the folder cannot be written.
        """
        for what, name in (("experiment", experiment), ("data set", data)):
            if not re.fullmatch(r"(?!\.)[^/\\]+", name) or not name.isprintable():
                raise RunError(
                    f"the {what}'s name becomes a folder: it cannot be empty, start with a dot or hold a separator, "
                    f"got {name!r}; use letters, digits and underscores"
                )
        while True:
            path = Path(runs, experiment, data, f"seed{seed}", f"{datetime.now():{TIME}}{suffix}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                time.sleep(0.2)
            except OSError as error:
                raise RunError(
                    f"no run folder can be made: {error}; choose a folder you may write to with --runs"
                ) from error
            else:
                return cls(path)

    @property
    def experiment(self) -> str:
        """Name of the experiment."""
        return self._names[0]

    @property
    def data(self) -> str:
        """Name of the data set."""
        return self._names[1]

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return self._names[2]

    @property
    def time(self) -> str:
        """When the run started, and what it was if not a training: the folder's own name."""
        return self.path.absolute().name

    @property
    def trains(self) -> bool:
        """Whether this is the run of a training, rather than of a test alone."""
        try:
            datetime.strptime(self.time, TIME)
        except ValueError:
            return False
        return True

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return (self.path if len(self.path.parts) > 4 else self.path.absolute()).parents[3]

    @property
    def wandb(self) -> Path | None:
        """What W&B keeps of the run, if it was started: of several parts, after an interruption, the last."""
        if not self.wandb_id.is_file():
            return None
        parts = self.runs.glob(f"wandb/*run-*-{self.wandb_id.read_text()}")
        return max(parts, default=None, key=lambda path: path.name.removeprefix("offline-"))

    @property
    def chosen(self) -> Path:
        """The checkpoint that was tested; before a test the best one, or the last if no measure chooses any."""
        named = self.read_summary().get("best_checkpoint") if self.summary.is_file() else None
        if named:
            return self.checkpoints / Path(named).name
        return self.best if self.best.exists() else self.last

    @classmethod
    def around(cls, checkpoint: str | Path) -> RunFolder | None:
        """Return the run folder that a checkpoint lies in, if it does."""
        path = Path(checkpoint).absolute()
        folder = cls(path.parent.parent)
        return folder if folder.checkpoints == path.parent and folder.config.is_file() else None

    def cut(self, checkpoint: str | Path) -> float:
        """Return the threshold that suits the validation images best; of a checkpoint that was not tested, 0.5."""
        summary = self.read_summary() if self.summary.is_file() else {}
        chosen = Path(summary.get("best_checkpoint") or "").name == Path(checkpoint).name
        return float(summary.get("cut", 0.5)) if chosen else 0.5

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: there is a summary, and it says so."""
        return self.summary.is_file() and bool(self.read_summary().get("finished"))

    def read_config(self) -> dict[str, Any]:
        """Return the resolved configuration.

        Raises:
            RunError: There is none, or it cannot be read.
        """
        return self._read(self.config, yaml.safe_load)

    def read_summary(self) -> dict[str, Any]:
        """Return what came out.

        Raises:
            RunError: There is no summary yet, or it cannot be read.
        """
        return self._read(self.summary, json.loads)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write what came out; whoever reads meanwhile sees the old summary or the new one, never a part."""
        beside = self.summary.with_suffix(".tmp")
        beside.write_text(json.dumps(summary, indent=2) + "\n")
        os.replace(beside, self.summary)

    def discard(self) -> None:
        """Remove a run that never began, and the folders that it leaves empty."""
        shutil.rmtree(self.path, ignore_errors=True)
        for parent in list(self.path.parents)[:3]:
            with suppress(OSError):
                parent.rmdir()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in this folder meanwhile.

        Raises:
            RunError: Another one does already.
        """
        import fcntl  # not everywhere, and only needed here

        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(f"another process trains in {self.path}; wait for it, or stop it first") from None
            yield

    def scores(self) -> Scores:
        """Return the test scores, image by image.

        Raises:
            RunError: The run was not tested, or on validation images alone.
        """
        for path in (self.images, self.curves):
            if not path.is_file():
                raise RunError(f"{self.path} holds no scores of a test: {path.name} is missing; run its test first")
        measures = self.read_summary().get("measures", {}) if self.summary.is_file() else {}
        if any(name.startswith("val/") for name in measures):
            raise RunError(f"{self.path} was scored on validation images alone; run its test first")
        from spatialseg.scores import Scores  # here, because whoever only looks for runs does not need it

        return Scores.load(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunFolder) and self.path.absolute() == other.path.absolute()

    @property
    def _names(self) -> tuple[str, str, int]:
        *_, experiment, data, seed, _ = ("", "", "", *self.path.absolute().parts)
        if number := re.fullmatch(r"seed(\d+)", seed):
            return experiment, data, int(number[1])
        summary = self.read_summary()
        return summary["experiment"], summary["data"], summary["seed"]

    def _read(self, path: Path, load: Any) -> dict[str, Any]:  # noqa: ANN401
        try:
            content = load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path} is not the folder of a finished run: {path.name} is missing") from None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise RunError(f"{path} cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise RunError(f"{path} must hold a mapping, got {type(content).__name__}")
        return content


def trainings(folder: Path) -> Iterator[RunFolder]:
    """Yield the training runs below `<runs>/<experiment>/<data>` or one of its seeds, the newest first."""
    paths = folder.glob("*" if re.fullmatch(r"seed\d+", folder.name) else "seed*/*")
    found = (RunFolder(path) for path in sorted(paths, key=lambda path: path.name, reverse=True))
    return (run for run in found if run.trains)


def find_runs(name: str | Path, runs: str | Path = "runs") -> list[RunFolder]:
    """Find finished runs by folder or by name.

    Args:
        name: A run folder, or what it was called: `saliency_wfb/ecssd` is the newest finished training of every seed
            of this experiment on this data set, `saliency_wfb/ecssd/seed3` that of one seed. A folder of such a name
            does as well.
        runs: The folder of all runs.

    Returns:
        The runs, in the order of their seeds.

    Raises:
        RunError: There is no such run, or none of them is finished.
    """
    folder = Path(name)
    if any(path.is_file() for path in (RunFolder(folder).config, RunFolder(folder).summary)):
        run = RunFolder(folder)
        if not run.finished:
            raise RunError(f"{folder} is not the folder of a finished run: its summary is missing or says otherwise")
        return [run]
    if not folder.is_dir():
        folder = Path(runs, name)
    newest: dict[int, RunFolder] = {}
    for run in trainings(folder):
        if run.seed not in newest and run.finished:
            newest[run.seed] = run
    if not newest:
        places = sorted(Path(runs).glob("*/*"))
        known = ["/".join(place.parts[-2:]) for place in places if any(run.finished for run in trainings(place))]
        hint = did_you_mean(str(name), known)
        here = [each for each in known if each.startswith(f"{folder.name}/")]
        what = "no run of it is finished" if folder.is_dir() else f"there is no folder {folder}{hint}"
        what = f"on which data? {', '.join(here)}" if here and folder.is_dir() else what
        raise RunError(
            f"{str(name)!r} is no finished run: {what}; "
            f"give a run folder or EXPERIMENT/DATA, of which there are in {runs}: {', '.join(known) or 'none'}"
        )
    return [newest[seed] for seed in sorted(newest)]
