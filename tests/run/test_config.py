import pytest
import yaml

from spatialseg.cli import main
from spatialseg.run.config import listen, read_config
from spatialseg.run.folder import RunError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model:\n  encoder: a\n  loss: []\n  encoder: b\n", "line 4: the key 'encoder' stands twice"),
        (b"model: [\n", "line 2: expected the node content"),
        (b"\xff\xfe\x00", "no YAML text"),
        (b"model: \x01\n", "no YAML text"),
        (b"- 1\n", r"must hold settings such as `model: ...`, got \[1\]"),
        (b"", "must hold settings"),
    ],
)
def test_a_file_that_cannot_be_meant_is_named_with_the_line(content, message, tmp_path):
    path = tmp_path / "some.yaml"
    path.write_bytes(content)
    with pytest.raises(RunError, match=message) as refused:
        read_config(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RunError, match="No such file"):
        read_config(tmp_path / "none.yaml")
    with pytest.raises(RunError, match="Is a directory"):
        read_config(tmp_path)


def test_anchors_and_merges_are_no_repetition(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}\n")
    assert read_config(path)["b"] == {"k": 3, "l": 2}


def test_what_a_command_says_is_heard(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("model: {encoder: a}\ntrainer: {max_epochs: 1}\n")
    said = listen(["-c", str(path), "--model.loss+=x", "--resume=last", "--trainer.max_epochs", "3"])
    assert said.resume == "last" and said.model == {"encoder", "loss"}
    assert listen(["--resume", "null"]).resume is None
    assert listen(["--model={encoder: a, learning_rate: 1e-3}"]).model == {"encoder", "learning_rate"}
    assert listen(["--model=[{"]).model == listen(["--model", "3"]).model == set()


def test_numbers_may_have_an_exponent_alone(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("{a: 1e-1, b: -2.E+3, c: 1e, d: 1e5x, e: 10}")
    assert read_config(path) == {"a": 0.1, "b": -2000.0, "c": "1e", "d": "1e5x", "e": 10}
    assert listen(["--model.loss=[{name: wfb, args: {beta2: 1e-1}}]"]).loss[0]["args"] == {"beta2": 0.1}


def test_a_loss_takes_nothing_from_the_one_that_it_replaces(tmp_path, capsys):
    path = tmp_path / "some.yaml"
    path.write_text("model: {loss: [{name: wfb, weight: 2, args: {beta2: 0.3}, schedule: {kind: linear}}]}")
    whole = {"name": "bce", "weight": 1.0, "args": {}, "schedule": None}
    other = tmp_path / "model.yaml"
    other.write_text("loss: [{name: bce}]")
    for said in (
        ["--model.loss=[{name: bce}]"],
        ["--model.loss", "[{name: bce}]"],
        ["--model={loss: [{name: bce}]}"],
        ["--model", str(other)],
    ):
        arguments = ["--config", str(path), *said]
        assert listen(arguments).loss == [whole]
        with pytest.raises(SystemExit):
            main(["fit", *arguments, "--print_config"])
        assert yaml.safe_load(capsys.readouterr().out)["model"]["loss"] == [whole]
    assert listen(["--model.loss=[{name: bce}]", f"--config={path}"]).loss[0]["args"] == {"beta2": 0.3}
    assert listen(["--config", str(path), "--model.loss+={name: bce}"]).loss is None
