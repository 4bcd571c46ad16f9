"""Whatever is wrong with what a user gives: one message that says what, status 2, no traceback, nothing left behind."""

import os
import pickle
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from spatialseg.cli import main
from spatialseg.data import DataError, FolderPairs
from spatialseg.task import SegmentationTask

BASE = Path(__file__).parents[1] / "experiments" / "base.yaml"
SMALL = [
    *("fit", "--config", str(BASE), "--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.max_epochs=1"),
    *("--model.encoder=resnet18", "--model.encoder_weights=null", "--data.size=64"),
]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def refused(capsys, *arguments: str) -> str:
    """Run a command that must end with status 2, a few lines, and no run folder; return what it says."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    said = capsys.readouterr().err
    assert stop.value.code == 2 and len(said.splitlines()) <= 6, said
    assert not list(Path().glob("runs/*"))
    return said


ARGUMENTS = [
    ("--model.nosuch=1", "unrecognized arguments: --model.nosuch=1"),
    ("--data.batchsize=1", "unrecognized arguments: --data.batchsize=1, did you mean 'data.batch_size'?"),
    ("--seed=1", "unrecognized arguments: --seed=1"),
    ("extra", "unrecognized arguments: extra"),
    ("--data.batch_size=0", "batch_size must be at least 1, got 0"),
    ("--data.batch_size=1.5", "--data.batch_size: expected a int, got 1.5"),
    ("--data.eval_batch_size=-1", "eval_batch_size must be at least 1, got -1"),
    ("--data.size=-64", "size must be at least 1, got -64"),
    ("--data.size=65", "size must be a multiple of the stride 32, got 65; try 96"),
    ("--data.eval_size=0", "eval_size must be at least 1, got 0"),
    ("--data.stride=0", "stride must be at least 1, got 0"),
    ("--data.num_workers=-1", "num_workers must be at least 0, got -1"),
    ("--data.cache_gb=.nan", "cache_gb must be at least 0, got nan"),
    ("--data.color_jitter=-1", "color_jitter must be at least 0, got -1"),
    ("--data.crop_scale=[0, 1]", "crop_scale must be two shares of the image's area"),
    ("--data.crop_scale=[0.5]", "--data.crop_scale: expected a tuple with 2 elements, got [0.5]"),
    ("--data.flip=maybe", "--data.flip: expected a bool, got maybe"),
    ("--data.source=nope.Nope", "--data.source: No module named 'nope'"),
    ("--data.source=torch.nn.Linear", "--data.source: Import path does not correspond to a subclass of Source"),
    ("--data.source=FolderPairs", "required: root"),
    ("--data.source.size=8", "scenes need a size of at least 32 pixels, got 8"),
    ("--data.source.train=0", "train must be at least 1 scene, got 0"),
    ("--data.source.val=0", "data set 'shapes': the val split is empty, and fit needs images of it"),
    ("--data.source.variant=gray", "expected a Literal['binary', 'multiclass'], got gray"),
    ("--seed_everything=-1", "--seed_everything must be a whole number from 0 to 2³² - 1, got -1"),
    ("--seed_everything=4294967296", "from 0 to 2³² - 1, got 4294967296"),
    ("--seed_everything=true", "--data.seed: expected a int, got True"),
    ("--seed_everything=x", "--seed_everything: expected a bool; or expected a int, got x"),
    ("--trainer.devices=0", "devices"),
    ("--trainer.accelerator=gpuu", "invalid accelerator name: `accelerator='gpuu'`. Available names are:"),
    ("--trainer.strategy=dddp", "invalid strategy name: `strategy='dddp'`"),
    ("--trainer.precision=17", "--trainer.precision: expected a Literal[64, 32, 16]"),
    ("--trainer.max_epochs=0", "a training needs at least one epoch, got --trainer.max_epochs 0"),
    ("--trainer.max_steps=-2", "`max_steps` must be a non-negative integer or -1"),
    ("--trainer.max_time=soon", "duration"),
    ("--trainer.gradient_clip_val=-1", "--trainer.gradient_clip_val must not be negative, got -1"),
    ("--trainer.accumulate_grad_batches=0", "--trainer.accumulate_grad_batches must be positive, got 0"),
    ("--trainer.log_every_n_steps=0", "--trainer.log_every_n_steps must be positive, got 0"),
    ("--trainer.check_val_every_n_epoch=0", "--trainer.check_val_every_n_epoch must be positive, got 0"),
    ("--trainer.check_val_every_n_epoch=5", "no validation in 1 epochs with --trainer.check_val_every_n_epoch 5"),
    ("--trainer.val_check_interval=0", "--trainer.val_check_interval must be positive, got 0"),
    ("--trainer.val_check_interval=1000", "`val_check_interval` (1000) must be less than or equal to the number of"),
    ("--trainer.limit_train_batches=-1", "for limit_train_batches, it has to be in [0.0, 1.0] or an int"),
    ("--trainer.limit_val_batches=0", "--trainer.limit_val_batches 0 leaves nothing to choose the best epoch by"),
    ("--trainer.limit_test_batches=0", "--trainer.limit_test_batches 0 leaves nothing to test; say --test=false"),
    ("--trainer.fast_dev_run=-1", "fast_dev_run=-1 is not a valid configuration"),
    ("--trainer.callbacks=Nope", "--trainer.callbacks: expected a list; or expected a dot import path string: Nope"),
    ("--trainer.profiler=nope", "`profiler`"),
    ("--model.learning_rate=0", "learning_rate must be positive, got 0"),
    ("--model.learning_rate=fast", "--model.learning_rate: expected a float, got fast"),
    ("--model.encoder_rate=-1", "encoder_rate must be at least 0"),
    ("--model.weight_decay=-1", "weight_decay must be at least 0, got -1"),
    ("--model.warmup=1", "warmup must be between 0 and 1"),
    ("--model.schedule=linear", "--model.schedule: expected a Literal['onecycle', 'cosine'], got linear"),
    ("--model.architecture=unett", "there is no architecture 'unett', did you mean 'unet'?"),
    ("--model.encoder=resnet81", "there is no encoder 'resnet81', did you mean 'resnet18'?"),
    ("--model.encoder=tu-resnet18.nope", "Invalid pretrained tag (nope) for resnet18"),
    ("--model.encoder_weights=mine", "--model.encoder_weights: expected a Literal['bundled', 'imagenet'], got mine"),
    ("--model.network_args={activation: sigmoid}", "unet has no argument 'activation'; network_args may hold:"),
    ("--seed=3", "unrecognized arguments: --seed=3, did you mean 'seed_everything'?"),
    ("--model.classes=2", 'Linked "model.classes" must be given via "data.classes"'),
    ("--model.loss=bce", "model.loss must be a list of terms, got 'bce'; write [{name: bce}]"),
    (
        "--model.loss=[bce, wfb]",
        "model.loss must be a list of terms, got ['bce', 'wfb']; write [{name: bce}, {name: wfb}]",
    ),
    ("--model.loss=[]", "a loss needs at least one term, got none"),
    ("--model.loss=[{name: wfbb}]", "there is no loss 'wfbb', did you mean 'wfb'?"),
    ("--model.loss=[{name: os.system}]", "'os.system' must be a class derived from torch.nn.Module"),
    ("--model.loss=[{name: bce, weight: -1}]", "the weight of loss 'bce' must be positive and finite, got -1"),
    ("--model.loss=[{name: wfb, args: {window: 4}}]", "window must be odd and positive"),
    ("--model.loss=[{name: bce, schedule: {kind: up}}]", "a schedule's kind must be one of"),
    ("--model.loss=[{name: ce}]", "this loss is not for shapes: CrossEntropyLoss is multi-class"),
    ("--monitor=val/weighted_g", "there is nothing to monitor called 'val/weighted_g', did you mean 'val/weighted_f'?"),
    ("--experiment=../x", "the experiment's name becomes a folder"),
    ("--experiment=\udcff", "the experiment's name becomes a folder"),
    ("--runs=/dev/null/x", "no run folder can be made"),
    ("--upload=true", "only online, and it is offline; set WANDB_MODE=online"),
    ("--resume=nowhere", "nowhere/config.yaml"),
    ("--resume=last", "there is no unfinished run in runs/unnamed/shapes/seed0; start a new one without --resume"),
    ("--ckpt_path=best", "there is no checkpoint 'best'; give the path of one, or of a run folder"),
]


@pytest.mark.parametrize(("argument", "message"), ARGUMENTS, ids=[argument.lstrip("-") for argument, _ in ARGUMENTS])
def test_arguments(argument, message, capsys):
    if "upload" in argument:
        arguments = [each for each in SMALL if "logger" not in each]
    else:
        arguments = SMALL
    assert message in refused(capsys, *arguments, argument)


CONFIGURATIONS = [
    (b"\xff\xfe\x00", "is no YAML text"),
    (b"model: \x01", "is no YAML text: unacceptable character"),
    (b"model: [", ", line 1: expected the node content"),
    (b"model:\n\tencoder: a", r", line 2: found character '\t'"),
    (b"a: *x", ", line 1: found undefined alias 'x'"),
    (b"a: 1\na: 2", ", line 2: the key 'a' stands twice"),
    (b"[" * 3000, "is nested too deeply"),
    (b"- 1", "must hold settings such as `model: ...`, got [1]"),
    (b"", "must hold settings such as `model: ...`, got None"),
    (b"model: 1", ": model must hold settings, `key: value`, got 1"),
    (b"trainer: [1]", ": trainer must hold settings"),
    (b"model:", ": model must hold settings"),
    (b"a: !!python/object/apply:os.system [touch exploded]", ", line 1: could not determine a constructor"),
    (None, "cannot be read: No such file or directory"),
]


@pytest.mark.parametrize(("content", "message"), CONFIGURATIONS)
def test_configurations(content, message, capsys, tmp_path):
    if content is not None:
        Path("some.yaml").write_bytes(content)
    said = refused(capsys, *SMALL, "--config", "some.yaml")
    assert said.startswith("error: the configuration some.yaml") and message in said
    assert not Path("exploded").exists()


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


@pytest.fixture(scope="module")
def sound() -> dict:
    network_args = yaml.safe_load(BASE.read_text())["model"].get("network_args")
    task = SegmentationTask(encoder="resnet18", encoder_weights=None, network_args=network_args)
    rest = {"epoch": 1, "global_step": 1, "pytorch-lightning_version": "2.6.0", "loops": {}, "callbacks": {}}
    return {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), **rest}


CHECKPOINTS: dict[str, tuple[Callable, str]] = {
    "empty": (lambda sound: b"", "is damaged, or no checkpoint"),
    "text": (lambda sound: b"no checkpoint", "is damaged, or no checkpoint"),
    "bare pickle bomb": (lambda sound: pickle.dumps(Bomb()), "is damaged, or no checkpoint"),
    "bomb": (lambda sound: sound | {"callbacks": Bomb()}, "holds more than weights and settings, posix.system"),
    "bomb in the weights": (lambda sound: {"state_dict": Bomb()}, "so nothing was loaded"),
    "tensor": (lambda sound: torch.ones(3), "lacks epoch, global_step, hyper_parameters, state_dict"),
    "foreign": (lambda sound: {"state_dict": {}}, "lacks epoch, global_step, hyper_parameters"),
    "settings are a list": (lambda sound: sound | {"hyper_parameters": [1]}, "its weights or settings have no names"),
    "settings of another network": (lambda sound: sound | {"hyper_parameters": {"dim": 1}}, "knows None classes"),
    "no weights": (lambda sound: sound | {"state_dict": {}}, "weights are not the network's, such as mean: none"),
    "other weights": (
        lambda sound: sound | {"state_dict": sound["state_dict"] | {"mean": torch.ones(2)}},
        "1 of its weights are not the network's, such as mean: (2,) instead of (1, 3, 1, 1)",
    ),
}


@pytest.mark.parametrize(("make", "message"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_checkpoints(make, message, sound, capsys):
    content = make(sound)
    Path("some.ckpt").write_bytes(content) if isinstance(content, bytes) else torch.save(content, "some.ckpt")
    said = refused(capsys, "test", *SMALL[1:], "--ckpt_path", "some.ckpt")
    assert said.startswith("error: ") and "some.ckpt" in said and message in said
    assert "weights_only" not in said and not Path("exploded").exists()


@pytest.mark.parametrize("damage", ["cut", "bomb"])
@pytest.mark.parametrize("command", ["fit", "validate", "fit --resume"])
def test_every_command_that_loads_a_checkpoint_refuses_a_damaged_and_a_malicious_one(command, damage, sound, capsys):
    run = Path("run/checkpoints")
    run.mkdir(parents=True)
    torch.save(sound | ({"callbacks": Bomb()} if damage == "bomb" else {}), run / "best.ckpt")
    if damage == "cut":
        with (run / "best.ckpt").open("r+b") as file:
            file.truncate(100_000)
    shutil.copy(run / "best.ckpt", run / "last.ckpt")
    shutil.copy(BASE, "run/config.yaml")
    Path("run/summary.json").write_text('{"experiment": "a", "data": "b", "seed": 0, "finished": true}')
    resume = command == "fit --resume"
    arguments = ["fit", "--resume", "run", *SMALL[3:]] if resume else [command, *SMALL[1:], "--ckpt_path", "run"]
    said = refused(capsys, *arguments)
    assert "run/checkpoints/" in said and not Path("exploded").exists()


def make_pairs(folder: Path, classes: int = 1) -> Path:
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for index in range(5):
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(folder / "images" / f"{index}.png")
        mask = np.zeros((20, 20), np.uint8)
        mask[5:10, 5 + index : 12] = 255 if classes == 1 else 1
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")
    return folder


def bomb_png(path: Path, side: int = 60_000) -> None:
    """Write a small PNG that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(side))), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def save(pixels: np.ndarray, path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for old in (folder / path).parent.glob(f"{Path(path).stem}.*"):
            old.unlink()
        Image.fromarray(pixels).save(folder / path)

    return change


def write(path: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_bytes(content)


def lists(**names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for split, lines in names.items():
            (folder / f"{split}.txt").write_text("\n".join(lines))

    return change


def blank(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        Image.new("L", (20, 20)).save(path)


def unprintable(folder: Path) -> None:
    for part in ("images", "masks"):
        shutil.copy(folder / part / "0.png", os.fsdecode(os.fsencode(folder / part) + b"/\xff.png"))


GREY = np.zeros((20, 20), np.uint8)
FILES: dict[str, tuple[Callable[[Path], object], dict, str]] = {
    "empty image": (write("images/0.png", b""), {}, "images/0.png: the file is empty (0 bytes)"),
    "text as image": (write("images/0.png", b"hello"), {}, "images/0.png: cannot be read, the file is damaged or no"),
    "cut image": (
        lambda folder: os.truncate(folder / "images/0.png", 200),
        {},
        "images/0.png: cannot be read, the file is damaged or no image",
    ),
    "decompression bomb": (
        lambda folder: bomb_png(folder / "images/0.png"),
        {},
        "images/0.png: too large to be decoded safely",
    ),
    "bomb as mask": (lambda folder: bomb_png(folder / "masks/0.png"), {}, "masks/0.png: too large to be decoded"),
    "float image": (save(GREY.astype(np.float32), "images/0.tiff"), {}, "floating-point pixels have no known range"),
    "float mask": (save(GREY.astype(np.float32), "masks/0.tiff"), {}, "a mask of floating-point values (mode F)"),
    "other size": (
        save(np.zeros((10, 9), np.uint8), "masks/0.png"),
        {},
        "the mask is 9×10 (width × height), its image",
    ),
    "colour mask": (save(np.full((20, 20, 3), (1, 200, 3), np.uint8), "masks/0.png"), {}, "0.png: a colour image"),
    "see-through mask": (save(np.full((20, 20, 4), 100, np.uint8), "masks/0.png"), {}, "mode RGBA (transparency"),
    "class indices": (save(GREY + np.arange(20, dtype=np.uint8) % 5, "masks/0.png"), {}, "as class indices have"),
    "outside the classes": (save(GREY + 9, "masks/0.png"), {"classes": 3}, "value 9 outside the 3 classes"),
    "classes as JPEG": (save(GREY, "masks/0.jpg"), {"classes": 3}, "JPEG blends class indices"),
    "all masks empty": (blank, {}, "every mask of train is empty, so nothing can be learnt from it"),
    "image alone": (lambda folder: (folder / "masks/0.png").unlink(), {}, "images without a mask"),
    "mask alone": (lambda folder: (folder / "images/0.png").unlink(), {}, "masks without an image"),
    "no masks": (lambda folder: shutil.rmtree(folder / "masks"), {}, "no folder photos/masks; photos holds: images/"),
    "one name twice": (
        lambda folder: Image.new("RGB", (9, 9)).save(folder / "images/0.bmp"),
        {},
        "two files of one name",
    ),
    "GIF": (write("images/x.gif", b"GIF89a"), {}, "a format that is not read, 1: x.gif; save them as PNG"),
    "name is no text": (unprintable, {}, r"names that are not printable UTF-8 text, 1: '\udcff.png'; rename"),
    "link to nowhere": (
        lambda folder: ((folder / "images/0.png").unlink(), (folder / "images/0.png").symlink_to("nowhere")),
        {},
        "images/0.png: no such file",
    ),
    "list names what is not there": (
        write("train.txt", b"0\n7\n"),
        {},
        "train.txt names pairs that do not exist, 1: 7",
    ),
    "list names twice": (write("train.txt", b"0\n0\n"), {}, "train.txt names some more than once, 1: 0"),
    "list is empty": (write("train.txt", b""), {}, "train.txt names nothing"),
    "list is no text": (write("train.txt", b"\xff\xfe\x00"), {}, "the list of train, photos/train.txt, cannot be read"),
    "lists overlap": (lists(train="01", val="12", test="3"), {}, "in both train and val, which would flatter"),
    "twins": (
        lambda folder: (
            shutil.copy(folder / "images/0.png", folder / "images/1.png"),
            lists(train="0", val="1", test="2")(folder),
        ),
        {},
        "the same images in train and val, which would flatter the scores",
    ),
    "no such list": (lambda folder: None, {"splits": "lists"}, "no train.txt, val.txt or test.txt in photos/lists"),
}


@pytest.mark.parametrize(("change", "options", "message"), FILES.values(), ids=FILES)
def test_files(change, options, message, tmp_path):
    change(make_pairs(Path("photos"), options.get("classes", 1)))
    with pytest.raises(DataError, match=re.escape(message)):
        FolderPairs("photos", **options).check()


def test_a_file_stops_a_training_before_it_begins(capsys):
    folder = make_pairs(Path("photos"))
    bomb_png(folder / "images/0.png")
    data = ["--data.source=FolderPairs", "--data.source.init_args.root=photos"]
    said = refused(capsys, *SMALL, *data)
    assert said.startswith("error: data set 'photos' in photos: 1 problem\n  - photos/images/0.png: too large")


COMMANDS = [
    ("explain no.png no.png --pred no.png", "spatialseg explain: no.png: no such file"),
    ("compare nothing", "'nothing' is no finished run"),
    ("losses wfbb", "did you mean 'wfb'?"),
    ("evidence nothing", "nothing"),
    ("score --pred no --gt no", "no is no folder"),
    ("score --pred no --gt no --beta2=-1", "beta2 must be positive, got -1.0"),
    ("score --pred no --gt no --beta2=nan", "beta2 must be positive, got nan"),
    ("score --pred no --gt no --workers=-1", "workers must be at least 0 (one thread per CPU), got -1"),
    ("test", "test needs a trained network: --ckpt_path CHECKPOINT, or RUN_FOLDER for the one it tested"),
    ("validate", "validate needs a trained network: --ckpt_path CHECKPOINT, or RUN_FOLDER for the one it tested"),
    ("fitt", "there is no command 'fitt', did you mean 'fit'?"),
]


@pytest.mark.parametrize(("command", "message"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_commands(command, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(command.split())
    said = capsys.readouterr().err
    assert stop.value.code == 2 and message in said
