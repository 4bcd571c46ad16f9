"""How fast `predict` is: photographs end to end against the network alone, and ONNX Runtime beside it.

    python benchmarks/predict.py                       # about 5 minutes; drawn scenes where there are no photographs
    python benchmarks/predict.py --run saliency_wfb/ecssd

Rounds of all contestants in turn, the order as it stands; medians, in images a second and in CPU time, which other
processes disturb less. The network alone has its images in memory, resized already, and nothing of it is written: once
with its threads on all cores, as PyTorch does by itself, and once with a batch on each core, which `predict` does; the
faster of the two is what `predict` is held against. Speed does not hang on the weights: without `--run` it is the
network of the experiments on ECSSD, untrained. Results go to benchmarks/results/predict.json, with the load of the
machine: taken while other processes ran they are worth less.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from common import save
from PIL import Image

from spatialseg.data import DataError, ProceduralScenes
from spatialseg.data.files import find_root, read_image
from spatialseg.export import export_onnx, whole_graph
from spatialseg.functional.dispatch import one_thread
from spatialseg.inference.model import Model, Origin, load
from spatialseg.predict import predict

NETWORK = "network", "network, a batch on each core"


def untrained(folder: Path, size: int, precision: str) -> Model:
    """Return the experiments' network with random weights."""
    settings = {"classes": 1, "architecture": "unet", "encoder": "tu-tf_efficientnet_lite0", "network_args": None}
    checkpoint = folder / "untrained.ckpt"
    checkpoint.touch()
    origin = Origin(checkpoint, None, "nothing", 0)
    return Model(settings | {"channels_last": True}, size, False, 32, ["salient"], 0.5, precision, origin).eval()


def photographs(folder: Path, count: int) -> tuple[str, dict[str, Path]]:
    """Return the name of a data set and its first images, or scenes drawn at their usual size."""
    try:
        paths = sorted((find_root("ecssd") / "images").glob("*.jpg"))[:count]
        return "ECSSD", {path.stem: path for path in paths}
    except DataError:
        scenes, paths = ProceduralScenes(size=400), {}
        for index in range(count):
            paths[f"{index:04d}"] = folder / f"{index:04d}.jpg"
            Image.fromarray(scenes.draw("train", index)[0]).save(paths[f"{index:04d}"], quality=90)
        return "drawn scenes", paths


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="run or checkpoint; by default the experiments' network, untrained")
    parser.add_argument("--size", type=int, default=256, help="side at which the untrained network sees images")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true", help="of the untrained")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load_at_start, cores = os.getloadavg()[0], os.cpu_count() or 1
    torch.set_num_threads(cores)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = load(options.run, device="cpu") if options.run else untrained(folder, options.size, options.precision)
        name, images = photographs(folder, options.images)
        tensors = [torch.from_numpy(read_image(path)).permute(2, 0, 1).contiguous() for path in images.values()]
        side = model.canvas((1, 1))
        batch = max(1, model.pixels_at_once // (side[0] * side[1]))
        prepared = [model.prepare(tensor) for tensor in tensors]
        batches = [prepared[start : start + batch] for start in range(0, len(prepared), batch)]

        def on_each_core() -> None:
            with one_thread(), ThreadPoolExecutor(cores) as pool:
                list(pool.map(model.infer, batches))

        def end_to_end(kinds: tuple[str, ...]) -> None:
            with tempfile.TemporaryDirectory() as out:
                outcome = predict(model, images, Path(out), kinds)
                assert outcome.done == len(images), outcome

        contestants = {
            NETWORK[0]: lambda: list(map(model.infer, batches)),
            NETWORK[1]: on_each_core,
            "predict": lambda: end_to_end(("maps", "masks")),
            "predict, maps only": lambda: end_to_end(("maps",)),
        }
        try:
            session_path = folder / "network.onnx"
            print(export_onnx(model, session_path, list(images.values())[:8]).describe("ONNX Runtime"))
            import onnxruntime

            settings = onnxruntime.SessionOptions()
            settings.intra_op_num_threads = torch.get_num_threads()
            session = onnxruntime.InferenceSession(str(session_path), settings, providers=["CPUExecutionProvider"])
            graph = whole_graph(model)
            single = [tensor[None] for tensor in tensors[:60]]

            def in_onnx() -> None:
                for tensor in single:
                    session.run(None, {"image": tensor.numpy()})

            @torch.inference_mode()
            def in_torch() -> None:
                for tensor in single:
                    graph(tensor)

            contestants |= {"ONNX Runtime, one by one": in_onnx, "the same graph in PyTorch": in_torch}
        except ModuleNotFoundError as error:
            print(f"ONNX Runtime is not timed: {error}")
        counts = {name: 60 if name.startswith(("ONNX", "the same")) else len(images) for name in contestants}
        walls: dict[str, list[float]] = {name: [] for name in contestants}
        cpus: dict[str, list[float]] = {name: [] for name in contestants}
        on_each_core()
        for _ in range(options.rounds):
            for contestant, run in contestants.items():
                start = time.perf_counter(), time.process_time()
                run()
                many = min(counts[contestant], len(images))
                walls[contestant].append((time.perf_counter() - start[0]) / many)
                cpus[contestant].append((time.process_time() - start[1]) / many)
        wall, cpu = ({name: statistics.median(each) for name, each in times.items()} for times in (walls, cpus))
        best = [min(of[name] for name in NETWORK) for of in (wall, cpu)]
        for contestant in contestants:
            shares = [one / of[contestant] for one, of in zip(best, (wall, cpu), strict=True)]
            print(
                f"{contestant:30} {1 / wall[contestant]:7.1f} images/s, {1e3 * cpu[contestant]:6.1f} ms of CPU time an "
                f"image: {shares[0]:.2f} and {shares[1]:.2f} of the network at its best"
            )
        record = {
            "command": " ".join(["python benchmarks/predict.py", *sys.argv[1:]]),
            "images": f"{len(images)} of {name}, in batches of {batch} at {side[0]}×{side[1]}, {model.precision}",
            "threads": torch.get_num_threads(),
            "load_at_start": load_at_start,
            "images_per_second": {name: 1 / seconds for name, seconds in wall.items()},
            "cpu_ms_per_image": {name: 1e3 * seconds for name, seconds in cpu.items()},
            "share_of_the_network": best[0] / wall["predict"],
            "share_of_the_network_in_cpu_time": best[1] / cpu["predict"],
        }
        print(f"Written to {save('predict', record)}; other processes took {load_at_start:.1f} CPUs when it started")


if __name__ == "__main__":
    main()
