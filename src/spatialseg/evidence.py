"""Tables of evidence: train what is missing, one run after the other, and keep what came out.

A table is a YAML file of `experiments/tables/`: arms × data sets × seeds. What a run found is kept in
`experiments/results/<table>/<data>/<arm>/seed<k>/` and never trained again.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from spatialseg.hints import command_parser, did_you_mean
from spatialseg.run.folder import RunError, RunFolder, trainings
from spatialseg.run.signals import Takeover

EXPERIMENTS = Path("experiments")  # below the folder that the command is called in: the project's
TUNING_SEED = 1000  # of the runs that choose a learning rate; no other run has it
OF_ARMS = ("candidates", "recipe", "few_seeds")  # what is said of a table's own arms
KEPT_CURVES = ("f", "weighted_f")
DIGITS = 4


class EvidenceError(ValueError):
    """A table or a record cannot be used; the message says which and why."""


@dataclass(frozen=True)
class TableSpec:
    """What a table compares.

    Args:
        name: Of the file, without suffix.
        title: What it shows.
        data: Names of data overlays in `experiments/data`.
        arms: Settings of each arm, over `shared`: a configuration. The file may say `<table>/<arm>` instead: the runs
            of another table's arm stand here, too, and are made once.
        seeds: Seeds of every arm.
        baseline: The arm that the others are compared with.
        shared: What all arms have in common, over the experiments' base and the data overlay.
        learning_rates: What each arm chooses from on validation; none to leave the rate as it is.
        chosen_by: The measure of the validation images by which it does.
        few_seeds: Arms that get the first three seeds only.
        recipe: The arm whose gain over each of the others is tabled; "" for none.
        candidates: Arms that are only tuned, on validation: what was tried on the way to a recipe.
        borrowed: Of the arms that are another table's, that table, and what they are called there.
    """

    name: str
    title: str
    data: list[str]
    arms: dict[str, dict[str, Any]]
    seeds: list[int]
    baseline: str
    shared: dict[str, Any] = field(default_factory=dict)
    learning_rates: list[float] = field(default_factory=list)
    chosen_by: str = "weighted_f_cut"
    few_seeds: list[str] = field(default_factory=list)
    recipe: str = ""
    candidates: list[str] = field(default_factory=list)
    borrowed: dict[str, tuple["TableSpec", str]] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str, within: tuple[str, ...] = ()) -> "TableSpec":
        """Read `experiments/tables/<name>.yaml`; what it does not say, it takes from the table that it is `like`.

        Arms may be a list then: of those that the other table has. With arms of its own a table does not take over
        which of the other's are candidates, the recipe, or of few seeds.

        Args:
            name: Of the table.
            within: Tables that borrow from it.

        Raises:
            EvidenceError: There is no such table, or it does not say what it has to.
        """
        from spatialseg.metrics.registry import available_measures  # takes seconds, and `--help` needs none of it

        if name in within:
            raise EvidenceError(f"tables borrow arms from each other in a circle: {' → '.join((*within, name))}")
        content, path = _settings(name), _path(name)
        borrowed = {}
        for arm, settings in content["arms"].items():
            if isinstance(settings, str):
                table, _, theirs = settings.partition("/")
                other = cls.read(table, (*within, name))
                if theirs not in other.arms:
                    raise EvidenceError(f"{path}: there is no arm {settings!r}{did_you_mean(theirs, other.arms)}")
                borrowed[arm] = other, theirs
                content["arms"][arm] = other.arms[theirs]
        try:
            spec = cls(name=name, borrowed=borrowed, **content)
        except TypeError as error:
            raise EvidenceError(f"{path}: {str(error).partition('() ')[2]}") from error
        for arm in (spec.baseline, *filter(None, [spec.recipe]), *spec.few_seeds, *spec.candidates):
            if arm not in spec.arms:
                raise EvidenceError(f"{path}: there is no arm {arm!r} among {', '.join(spec.arms)}")
        for data in spec.data:
            if not (EXPERIMENTS / "data" / f"{data}.yaml").is_file():
                raise EvidenceError(f"{path}: there is no data set {data!r} in {EXPERIMENTS / 'data'}")
        if spec.chosen_by not in (measures := available_measures(further=True)):
            hint = did_you_mean(spec.chosen_by, measures)
            raise EvidenceError(f"{path}: there is no measure {spec.chosen_by!r} to choose rates by{hint}")
        return spec

    def runs(self) -> Iterator["EvidenceRun"]:
        """Yield the runs: those that choose each arm's rate, then seed after seed."""
        for data in self.data:
            for arm in self.arms:
                yield from (self.run(data, arm, TUNING_SEED, rate) for rate in self.learning_rates)
        for place, seed in enumerate(self.seeds):
            for data in self.data:
                for arm in self.arms:
                    if arm not in self.candidates and (place < 3 or arm not in self.few_seeds):
                        yield self.run(data, arm, seed)

    def run(self, data: str, arm: str, seed: int, rate: float | None = None) -> "EvidenceRun":
        """Return a run of an arm, as one of the table that the arm belongs to."""
        if arm in self.borrowed:
            other, theirs = self.borrowed[arm]
            return other.run(data, theirs, seed, rate)
        return EvidenceRun(self, data, arm, seed, rate)


def _path(name: str) -> Path:
    return EXPERIMENTS / "tables" / f"{name}.yaml"


def _settings(name: str, within: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what a table says, and what it takes from the one that it is like; its arms are a mapping."""
    from spatialseg.run.config import read_config  # the same

    path = _path(name)
    if not path.is_file():
        known = sorted(other.stem for other in path.parent.glob("*.yaml"))
        whose = f", which {within[-1]!r} is like," if within else ""
        hint = did_you_mean(name, known)
        raise EvidenceError(
            f"there is no table {name!r}{whose} in {path.parent}{hint}; there are: {', '.join(known) or 'none'}"
        )
    if name in within:
        raise EvidenceError(f"tables are like each other in a circle: {' → '.join((*within, name))}")
    try:
        content = read_config(path)
    except RunError as error:
        raise EvidenceError(str(error)) from error
    like = _settings(content.pop("like"), (*within, name)) if "like" in content else {}
    arms = content.get("arms", like.get("arms"))
    if isinstance(arms, list):
        if unknown := [arm for arm in arms if arm not in like.get("arms", {})]:
            raise EvidenceError(f"{path}: the table that it is like has no arm {', '.join(map(str, unknown))}")
        content["arms"] = {arm: like["arms"][arm] for arm in arms}
    elif not isinstance(arms, dict):
        raise EvidenceError(
            f"{path}: arms must be settings by name, or names of the table that it is like, got {arms!r}"
        )
    if "arms" in content:
        like = {key: value for key, value in like.items() if key not in OF_ARMS}
    return like | content


@dataclass(frozen=True)
class EvidenceRun:
    """One run of a table that the arm belongs to; with a rate, one that is only validated."""

    spec: TableSpec
    data: str
    arm: str
    seed: int
    rate: float | None = None

    @property
    def record(self) -> Path:
        """Where its record is, or will be."""
        last = f"seed{self.seed}" if self.rate is None else f"rate{self.rate:g}"
        return EXPERIMENTS / "results" / self.spec.name / self.data / self.arm / last

    @property
    def done(self) -> bool:
        """Whether there is a record."""
        return RunFolder(self.record).summary.is_file()

    def summary(self) -> dict[str, Any]:
        """Return what its record says."""
        return RunFolder(self.record).read_summary()

    @property
    def experiment(self) -> str:
        """What the run is called."""
        return f"{self.spec.name}-{self.arm}" + ("" if self.rate is None else f"-rate{self.rate:g}")

    def chosen_rate(self) -> float | None:
        """Return the learning rate that scored highest on validation; `None` where there is no choice.

        Raises:
            EvidenceError: Not all of them were tried yet.
        """
        if self.rate is not None or not self.spec.learning_rates:
            return self.rate
        tried = {}
        for rate in self.spec.learning_rates:
            run = EvidenceRun(self.spec, self.data, self.arm, TUNING_SEED, rate)
            if not run.done:
                raise EvidenceError(f"{self.arm} on {self.data}: {run.record}, of the rate {rate:g}, is missing")
            tried[rate] = run.summary()["validation"][self.spec.chosen_by]
        return max(tried, key=tried.__getitem__)

    def settings(self, runs: Path) -> dict[Path, dict[str, Any]]:
        """Return what is set over base and data overlay, by the file that says so: the table's share, and the arm's."""
        settings: dict[str, Any] = {"experiment": self.experiment, **self.spec.arms[self.arm]}
        rate = self.chosen_rate()
        if rate is not None:
            settings["model"] = {**settings.get("model", {}), "learning_rate": rate}
        if self.rate is not None:
            settings["test"] = False
        folder = runs / "tables" / self.spec.name
        return {folder / "shared.yaml": self.spec.shared, folder / f"{self.experiment}.yaml": settings}

    def command(self, runs: Path) -> list[str]:
        """Return the command that trains it, or goes on where it stopped; writes the configuration that it names."""
        settings = self.settings(runs)
        for path, content in settings.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(content, sort_keys=False)
            if not path.is_file() or path.read_text() != text:  # another run may be reading it
                path.write_text(text)
        configs = [EXPERIMENTS / "base.yaml", EXPERIMENTS / "data" / f"{self.data}.yaml", *settings]
        command = [sys.executable, "-m", "spatialseg", "fit"]
        command += [part for path in configs for part in ("--config", str(path))]
        command += ["--seed_everything", str(self.seed), "--runs", str(runs)]
        newest = next(self.folders(runs), None)
        resumable = newest is not None and not newest.finished and newest.last.is_file()
        return [*command, "--resume", str(newest)] if resumable else command

    def folders(self, runs: Path) -> Iterator[RunFolder]:
        """Yield its run folders, the newest first."""
        return trainings(runs / self.experiment / self.data / f"seed{self.seed}")

    def finished(self, runs: Path) -> RunFolder | None:
        """Return its newest run that came to its end, if it did so after its settings were last written."""
        written = max(path.stat().st_mtime for path in self.settings(runs))
        found = (run for run in self.folders(runs) if run.finished and run.summary.stat().st_mtime >= written)
        return next(found, None)

    def keep(self, run: RunFolder) -> None:
        """Write the record of a finished run: its summary, last of all, and the scores of its images, rounded."""
        self.record.mkdir(parents=True, exist_ok=True)
        if self.rate is None:
            scores = run.scores()
            scores.columns = {name: column.round(DIGITS) for name, column in scores.columns.items()}
            curves = {name: scores.curves[name] for name in KEPT_CURVES if name in scores.curves}
            scores.curves = {name: curve.round(DIGITS).astype("float32") for name, curve in curves.items()}
            dropped = {measure.of[0] for measure in scores.measures if measure.average == "mean curve"} - curves.keys()
            scores.measures = tuple(each for each in scores.measures if not dropped & set(each.of))
            scores.save(self.record)
        summary = {"table": self.spec.name, "arm": self.arm, "rate": self.chosen_rate(), **run.read_summary()}
        summary.pop("best_checkpoint", None)  # stays where it was made
        RunFolder(self.record).write_summary(summary)


def runs_of(specs: Sequence[TableSpec]) -> list[EvidenceRun]:
    """Return the runs of tables in the order in which they are worth making.

    Those that choose rates come first, then seed after seed of each table. Then come arms of few seeds, one after the
    other, so that whoever stops early lacks whole arms; the rates of the next one before its own seeds, which would
    wait for the last of its own rates. Last are the rates of candidates.
    """

    def worth(run: EvidenceRun) -> tuple[bool, int, bool]:
        few, seeds = run.spec.few_seeds, run.rate is None
        return run.arm in run.spec.candidates, few.index(run.arm) + 1 + seeds if run.arm in few else 0, seeds

    runs = {run.record: run for spec in specs for run in spec.runs()}
    return sorted(runs.values(), key=worth)


class Running:
    """The trainings that run now. What asks this process to stop is passed on to them, and no other one begins.

    Args:
        jobs: How many run at a time; several share the cores.
    """

    def __init__(self, jobs: int) -> None:
        self.signum = 0
        share = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} if jobs > 1 else {}
        self._environment = {**share, **os.environ}
        self._trainings: set[subprocess.Popen[bytes]] = set()

    def run(self, command: Sequence[str], output: IO[str]) -> int:
        """Run a training to its end, and return its status."""
        # In a session of its own a terminal does not reach it: a second Ctrl-C would stop it without a checkpoint.
        with subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=self._environment, start_new_session=True
        ) as training:
            self._trainings.add(training)
            if self.signum:  # it came meanwhile
                training.send_signal(self.signum)
            status = training.wait()
        self._trainings.discard(training)
        return status

    def stop(self, signum: int, frame: object) -> None:
        """Pass a signal on."""
        self.signum = signum
        print("\nStopping; the trainings save where they are, and the same command goes on.", flush=True)
        for training in list(self._trainings):
            training.send_signal(signum)


def make(specs: Sequence[TableSpec], runs: Path, limit: int | None = None, jobs: int = 1) -> None:
    """Make the runs of tables that are missing, in the order of `runs_of`.

    Args:
        specs: The tables.
        runs: Folder of run folders.
        limit: How many runs to make at most.
        jobs: How many to make at a time: a small network leaves most of an accelerator idle.

    Raises:
        EvidenceError: A run failed; the message says where its output is. Runs that were begun are finished first.
        SystemExit: A signal asked to stop; the trainings have saved where they are.
    """
    wanted = runs_of(specs)
    missing = [run for run in wanted if not run.done]
    print(f"{', '.join(spec.name for spec in specs)}: {len(missing)} of {len(wanted)} runs are missing", flush=True)
    missing, made = missing[:limit], 0
    start = time.monotonic()
    running = Running(jobs)
    rates: dict[tuple[str, str, str], list[Future[None]]] = {}

    def make_and_tell(run: EvidenceRun, before: Sequence[Future[None]]) -> None:
        nonlocal made
        for other in before:
            other.result()
        began = time.monotonic()
        _make_one(run, runs, running)
        made, now = made + 1, time.monotonic()
        left = (now - start) / made * (len(missing) - made) / 3600
        print(f"{_line(run)}  {(now - began) / 60:.1f} min, {left:.1f} h left", flush=True)

    pool, signals = ThreadPoolExecutor(jobs), Takeover(running.stop)
    signals.take()
    try:
        futures = []
        for run in missing:
            tried = rates.setdefault((run.spec.name, run.data, run.arm), [])
            futures.append(pool.submit(make_and_tell, run, () if run.rate else tuple(tried)))
            if run.rate:
                tried.append(futures[-1])
        for future in futures:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        signals.give_back()


def _make_one(run: EvidenceRun, runs: Path, running: Running) -> None:
    """Train a run, unless it came to its end while nobody waited for it, and keep its record."""
    command, status = run.command(runs), 0
    log = runs / "tables" / run.spec.name / f"{run.experiment}-{run.data}-seed{run.seed}.log"
    if not running.signum and not run.finished(runs):
        with log.open("a") as output:
            status = running.run(command, output)
    if finished := run.finished(runs):
        run.keep(finished)
    elif running.signum:
        raise SystemExit(128 + running.signum)
    else:
        raise EvidenceError(f"{run.experiment} on {run.data} stopped with status {status}; its output is in {log}")


def _line(run: EvidenceRun) -> str:
    summary = run.summary()
    measures = summary["validation"] if run.rate is not None else summary["measures"]
    values = {name.partition("/")[2] or name: value for name, value in measures.items()}
    shown = [
        f"{name} {values[name]:.3f}" for name in ("weighted_f", "weighted_f_cut", "iou", "boundary_f") if name in values
    ]
    return "  ".join([f"{run.experiment} on {run.data}, seed {run.seed}:", *shown])


def main(args: Sequence[str]) -> None:
    """Make the runs of tables.

    Raises:
        SystemExit: With status 2 when a table cannot be used or a run fails, with 128 and its number after a signal.
    """
    parser = command_parser(
        "evidence",
        "Train what is missing of tables of experiments/tables, one run after the other. Can be stopped "
        "at any time: what is finished is kept, what is not goes on where it was.",
        "saliency person --plan",
    )
    parser.add_argument("tables", nargs="+", metavar="table", help="name of a table")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run folders (default: runs)")
    parser.add_argument("--limit", type=int, help="make at most so many runs")
    parser.add_argument("--jobs", type=int, default=1, help="make so many runs at a time (default: 1)")
    parser.add_argument("--plan", action="store_true", help="only list the runs and whether they are done")
    options = parser.parse_args(args)
    if options.jobs < 1:
        parser.error(f"--jobs must be 1 or more, got {options.jobs}")
    try:
        specs = [TableSpec.read(name) for name in dict.fromkeys(options.tables)]
        if options.plan:
            for run in runs_of(specs):
                print(_line(run) if run.done else f"{run.experiment} on {run.data}, seed {run.seed}: missing")
        else:
            make(specs, options.runs, options.limit, options.jobs)
    except EvidenceError as error:
        parser.error(str(error))
