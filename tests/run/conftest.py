import pytest
import yaml
from small_runs import EXPERIMENTS, fit

from spatialseg.run.folder import RunFolder


@pytest.fixture(scope="session")
def overlay(tmp_path_factory) -> list[str]:
    """Return the arguments that make any experiment a matter of seconds."""
    settings = {
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1},
        "model": {"encoder": "resnet18", "encoder_weights": None},
        "data": {
            "size": 64,
            "eval_size": 64,
            "batch_size": 4,
            "source": {
                "class_path": "spatialseg.data.ProceduralScenes",
                "init_args": {"train": 8, "val": 3, "test": 3, "size": 64},
            },
        },
    }
    path = tmp_path_factory.mktemp("overlay") / "small.yaml"
    path.write_text(yaml.safe_dump(settings))
    return ["--config", str(path)]


@pytest.fixture
def small(overlay, tmp_path) -> list[str]:
    """Return the same with a folder of runs for one test."""
    return [*overlay, "--runs", str(tmp_path / "runs")]


@pytest.fixture(scope="session")
def finished(overlay, tmp_path_factory) -> dict[str, tuple[RunFolder, str]]:
    """Return run folder and printed text of every experiment, trained once."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    return {experiment: fit(experiment, overlay, runs) for experiment in EXPERIMENTS}
