"""Where the time of a training goes: `--profile`."""

from lightning.pytorch.profilers import SimpleProfiler

from spatialseg.report.table import Column, Table

PARTS = {
    "waiting for the loader": ("train_dataloader_next",),
    "copying to the device": ("batch_to_device",),
    "network and loss": ("training_step",),
    "gradients": (".backward",),
    "validation": ("val_next", "validation_step"),
}
"""Ends of the names under which Lightning times each part."""


class Shares(SimpleProfiler):
    """Time the parts of a training.

    On an accelerator, which works while the host goes on, time is seen where the host waits for it.
    """

    def table(self) -> Table:
        """Return seconds and shares of the parts of all epochs; what is not one of them is "the rest"."""
        total = self._seconds("run_training_epoch")
        seconds = {part: sum(map(self._seconds, ends)) for part, ends in PARTS.items()}
        steps = self._seconds("optimizer_step") - seconds["network and loss"] - seconds["gradients"]
        seconds["clipping and the optimizer's step"] = steps
        seconds["the rest: logs, pictures, checkpoints"] = total - sum(seconds.values())
        rows = [
            {"part": part, "seconds": spent, "share": f"{spent / max(total, 1e-9):.1%}"}
            for part, spent in sorted(seconds.items(), key=lambda item: -item[1])
        ]
        columns = [Column("part", "part"), Column("seconds", "seconds"), Column("share", "share")]
        return Table(columns, rows, f"Where {total:.1f} s of training went")

    def _seconds(self, end: str) -> float:
        return sum(sum(spent) for name, spent in self.recorded_durations.items() if name.endswith(end))
