"""How fast the losses are, forward and backward: against SMP's Dice and cross-entropy, per pixel, and beside a network.

    python benchmarks/losses.py            # about 10 minutes on one thread
    python benchmarks/losses.py --threads 2 --repeats 40

Every ratio is taken in this one process: all sides are warmed up, then run in turn on the same threads. Reported are
median and quartiles of at least 20 repeats (3 for the network's step). Results go to benchmarks/results/losses.json.
"""

import argparse
import time
from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from common import alternate, peak_memory, save, shown
from torch import Tensor

from spatialseg.functional import distance_to_foreground
from spatialseg.losses import available_losses, build_loss
from spatialseg.losses.registry import loss_class


def scene(batch: int, channels: int, size: int) -> tuple[Tensor, Tensor]:
    """Return random logits that require a gradient, and a target of blobs."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, channels, size, size, generator=generator)
    noise = torch.rand(batch, 1, 8, 8, generator=generator)
    smooth = F.interpolate(noise, size=(size, size), mode="bicubic").clamp(0, 0.999)[:, 0]
    return logits.requires_grad_(), (smooth * max(channels, 2)).long()


def step(loss: Callable[..., Tensor], logits: Tensor, *rest: Tensor) -> Callable[[], None]:
    """Return a function that runs the loss forward and backward."""

    def run() -> None:
        loss(logits, *rest).backward()
        logits.grad = None

    return run


def network_step(batch: int, size: int, repeats: int) -> float:
    """Return the median seconds of a training step of a ResNet-34 U-Net, with BCE as its loss."""
    model = smp.Unet("resnet34", encoder_weights=None)
    optimizer = torch.optim.AdamW(model.parameters())
    images, target = torch.randn(batch, 3, size, size), torch.rand(batch, 1, size, size).round()

    def train() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(images), target).backward()
        optimizer.step()

    train()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        train()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def weighted_f(repeats: int, step_ms: float) -> dict[str, object]:
    """Compare wfb at 8×1×352×352 with SMP's Dice, and with the network's step."""
    logits, target = scene(8, 1, 352)
    distance = distance_to_foreground(target == 1)
    loss, dice = build_loss("wfb").losses["wfb"], smp.losses.DiceLoss("binary")
    times = alternate(
        {
            "dice (SMP)": step(dice, logits, target),
            "wfb, distance given": step(loss, logits, target, distance),
            "wfb": step(loss, logits, target),
            "distance": lambda: distance_to_foreground(target == 1),
        },
        repeats,
    )
    print(f"\n8×1×352×352, forward + backward; a step of the network takes {step_ms:.0f} ms")
    for name, each in times.items():
        ratio, share = each["ms"] / times["dice (SMP)"]["ms"], each["ms"] / step_ms
        print(f"  {name:22} {shown(each)}  ×{ratio:.2f}  {share:.2%}")
    return {"step_ms": step_ms, "times": times}


def locally_adaptive(repeats: int) -> dict[str, object]:
    """Compare lal at 2×21×321×321 with cross-entropy."""
    logits, target = scene(2, 21, 321)
    functions = {"cross-entropy": step(F.cross_entropy, logits, target)}
    for window in (1, 3, 5, 7):
        functions[f"lal, r = {window}"] = step(build_loss({"name": "lal", "args": {"window": window}}), logits, target)
    functions["lal, r = 3, all"] = step(build_loss({"name": "lal", "args": {"groups": "all"}}), logits, target)
    size = logits.numel() * logits.element_size()
    print("\n2×21×321×321, forward + backward; memory in sizes of the logits, their gradient included")
    memory = {name: peak_memory(function) / size for name, function in functions.items()}
    times = alternate(functions, repeats)
    for name, each in times.items():
        ratio = each["ms"] / times["cross-entropy"]["ms"]
        print(f"  {name:22} {shown(each)}  ×{ratio:.2f}  {memory[name]:.2f}")
    return {"times": times, "memory": memory}


def per_pixel(repeats: int) -> dict[str, object]:
    """Measure nanoseconds per pixel of both spatial losses over image sizes: of one image, and of 4 megapixels of them.

    What a call costs whatever its size shows in one small image; a batch of as many pixels shows how the work grows.
    """
    record: dict[str, object] = {}
    for kind, pixels in (("one image", 0), ("4 megapixels", 2048**2)):
        print(f"\nns per pixel, {kind}, one channel")
        record[kind] = {}
        for size in (128, 256, 512, 1024, 2048):
            logits, target = scene(max(1, pixels // size**2), 1, size)
            times = alternate({name: step(build_loss(name), logits, target) for name in ("wfb", "lal", "bce")}, repeats)
            found = {name: each["ms"] * 1e6 / target.numel() for name, each in times.items()}
            record[kind][str(size)] = found
            print(f"  {size:5}² " + "".join(f"  {name} {each:6.1f}" for name, each in found.items()))
    return record


def zoo(repeats: int, step_ms: float) -> dict[str, object]:
    """Measure every loss at 8×1×352×352, or 8×4×352×352 where it takes no binary logits."""
    print("\nevery loss at 8×1×352×352 (ce: 8×4×352×352), forward + backward; memory in sizes of the logits")
    functions, sizes = {}, {}
    for name in available_losses():
        logits, target = scene(8, 1 if getattr(loss_class(name), "binary", True) else 4, 352)
        functions[name] = step(build_loss(name), logits, target)
        sizes[name] = logits.numel() * logits.element_size()
    times = alternate(functions, repeats)
    record = {}
    for name, each in sorted(times.items(), key=lambda item: item[1]["ms"]):
        memory = peak_memory(functions[name]) / sizes[name]
        record[name] = {**each, "share_of_step": each["ms"] / step_ms, "memory": memory}
        print(f"  {name:10} {shown(each)} {each['ms'] / step_ms:7.2%} {memory:6.1f}")
    return record


def main() -> None:
    """Run all and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    record = {"repeats": args.repeats, "locally_adaptive": locally_adaptive(args.repeats)}  # first: its memory matters
    step_ms = 1e3 * network_step(8, 352, 3)
    record |= {
        "weighted_f": weighted_f(args.repeats, step_ms),
        "ns_per_pixel": per_pixel(args.repeats),
        "zoo": zoo(args.repeats, step_ms),
    }
    print(f"\nwritten to {save('losses', record)}")


if __name__ == "__main__":
    main()
