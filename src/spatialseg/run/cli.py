"""The command line of a run: `fit`, `validate` and `test`, what they say, and how they end."""

import json
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

from jsonargparse import DefaultHelpFormatter
from lightning.pytorch.cli import LightningArgumentParser

from spatialseg.data import DataError, SegmentationDataModule
from spatialseg.hints import HelpFormatter, did_you_mean
from spatialseg.run.command import FIRST, RunCLI
from spatialseg.run.config import listen, plainly
from spatialseg.run.folder import RunError, RunFolder
from spatialseg.run.interruption import Stopped
from spatialseg.run.loggers import SaveConfig, finish_wandb
from spatialseg.run.settings import LINKED
from spatialseg.task import NonFiniteLossError, SegmentationTask

PROGRAM = "python -m spatialseg"


def main(args: Sequence[str]) -> None:
    """Run `fit`, `validate` or `test`.

    Args:
        args: The command and its arguments.

    Raises:
        SystemExit: With status 2 when the arguments, the configuration, the data or a checkpoint cannot be used, or the
            loss becomes infinite; with 128 and its number when a signal stopped the run.
    """
    _quieten()
    status = 1
    try:
        command, *rest = args
        said = listen(rest)
        if said.resume not in (None, "last"):
            rest = ["--config", str(RunFolder(said.resume).config), *rest]
            said = listen(rest)
        if said.loss:
            rest += ["--model.loss", json.dumps(said.loss, default=str)]
        with ExitStack() as held:
            RunCLI(
                held,
                said.model,
                SegmentationTask,
                SegmentationDataModule,
                save_config_callback=SaveConfig,
                save_config_kwargs={"save_to_log_dir": False},
                seed_everything_default=0,
                # The data module has samplers of its own.
                trainer_defaults={"use_distributed_sampler": False, "max_epochs": 4, "num_sanity_val_steps": 0},
                parser_class=Parser,
                auto_configure_optimizers=False,
                args=[command, *rest],
                parser_kwargs={"prog": PROGRAM, "parser_mode": "yaml", "formatter_class": Help, **_epilogs()},
            )
        status = 0
    except (DataError, RunError, NonFiniteLossError, OSError) as error:
        _fail(error)
    except Stopped as stopped:
        if FIRST:
            print(stopped, flush=True)
        sys.exit(stopped.status)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        finish_wandb(status)


class Help(HelpFormatter, DefaultHelpFormatter):
    """Shows values and types as jsonargparse does."""


def _epilogs() -> dict[str, dict[str, str]]:
    """Return, for the parser of each command, the example that its help ends with."""
    trained = "--config RUN/config.yaml --ckpt_path RUN"
    examples = {"fit": "--config experiments/base.yaml --config experiments/saliency_wfb.yaml"}
    return {
        name: {"epilog": f"example: {PROGRAM} {name} {examples.get(name, trained)}"} for name in RunCLI.subcommands()
    }


class Parser(LightningArgumentParser):
    """Says what is wrong, not all that could be right, and takes no abbreviations: `--seed` is not `--seed_everything`.

    Args:
        args: Lightning's.
        kwargs: Lightning's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, allow_abbrev=False)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with status 2 and the message."""
        message = plainly(message)
        parser: LightningArgumentParser = self
        actions = self._subcommands_action
        in_file = re.search(r"Subcommand '(\w+)' does not accept option '([\w.]+)'", message)
        if in_file and actions:
            parser = actions.choices[in_file[1]]
            message = f"a configuration file has a setting {in_file[2]!r} that {in_file[1]} does not know"
        if unknown := in_file or re.search(r"unrecognized arguments: --([\w.]+)", message):
            options = {option.lstrip("-") for option in parser._option_string_actions} - {*LINKED.values()}
            message += did_you_mean(unknown[unknown.lastindex or 0], sorted(options))
        # Parsers of classes within the command line have another name, and no options to show.
        name = parser.prog.replace(" [options]", "")
        _fail(message + (f"\nAll options: {name} --help" if PROGRAM in name else ""))


def _fail(error: Exception | str) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def _quieten() -> None:
    """Silence what a user can do nothing about."""
    os.environ.setdefault("WANDB_SILENT", "true")
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "does not have many workers",
        "Experiment logs directory",
        "Be aware that when using `ckpt_path`",
        "The number of training batches",
        "There is a wandb run already in progress",
        "LightningCLI's args parameter",
        "isinstance\\(treespec, LeafSpec\\)",
        "Checkpoint directory .* exists and is not empty",
        "but have no logger configured",
        "It is recommended to use .*sync_dist=True",  # measures are those of all processes before they are logged
    ):
        warnings.filterwarnings("ignore", message=f".*{message}")
