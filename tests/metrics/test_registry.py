"""A measure of one's own: registered once, it is in every table, collection and file."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from spatialseg.metrics import available_measures, register_measure, registry, saliency_metrics
from spatialseg.metrics.registry import Measuring
from spatialseg.score import main, score
from spatialseg.scores import Measure


class Contrast(Measuring):
    """The mean of the foreground less the mean of the background; no value where there is no foreground."""

    def count(self, maps, conventions):
        return torch.stack(
            [(maps.prediction * part).sum((1, 2)) / part.sum((1, 2)) for part in (maps.mask == 1, maps.mask == 0)], 1
        )

    def values(self, counts, conventions):
        return {"contrast": counts[:, 0] - counts[:, 1]}


@pytest.fixture
def contrast(monkeypatch):
    monkeypatch.setattr(registry, "_registry", [*registry._registry])
    register_measure(Measure("contrast", "contrast"))(Contrast)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("maps", "masks"):
        (tmp_path / folder).mkdir()
    for name in range(4):
        mask = (rng.random((20, 30)) < 0.3 * (name > 0)) * np.uint8(255)  # the first is empty
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
        Image.fromarray(rng.integers(0, 255, mask.shape, np.uint8) // 2 + mask // 4).save(
            tmp_path / "maps" / f"{name}.png"
        )
    return tmp_path


def test_a_measure_of_ones_own_is_everywhere(contrast, files, capsys):
    pairs = [[np.asarray(Image.open(files / kind / f"{name}.png")) for kind in ("maps", "masks")] for name in range(4)]
    expected = np.mean([(grey[mask > 0].mean() - grey[mask == 0].mean()) / 255 for grey, mask in pairs[1:]])
    (result,) = score({"mine": files / "maps"}, {"gt": files / "masks"})
    assert result.scores.figures()["contrast"] == pytest.approx(expected, abs=1e-12)
    metrics = pickle.loads(pickle.dumps(saliency_metrics(full=True)))
    with pytest.warns(UserWarning, match="without foreground"):
        for grey, mask in pairs:
            metrics.update(torch.tensor(grey)[None], torch.tensor(mask > 0)[None])
    assert metrics.compute()["contrast"].item() == pytest.approx(expected, abs=1e-12)
    main(
        [
            "--pred",
            str(files / "maps"),
            "--gt",
            str(files / "masks"),
            "--out",
            str(files),
            "--figures",
            "none",
            "--sheet",
            "0",
        ]
    )
    assert "contrast" in capsys.readouterr().out and ",contrast\n" in (files / "scores.csv").read_text()


def test_a_name_is_given_once(contrast):
    assert list(available_measures())[-1] == "contrast"
    with pytest.raises(ValueError, match="a measure named mae already"):
        register_measure(Measure("mae", "mine"))(Contrast)
