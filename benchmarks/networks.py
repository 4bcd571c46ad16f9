"""How large and how fast are the networks of the table `networks`? One image of 256², one thread, and a training step.

Writes benchmarks/results/networks.json, from which `make tables` draws what each is worth.
"""

import torch
import torch.nn.functional as F
import yaml
from common import alternate, save, shown

from spatialseg.evidence import EXPERIMENTS, TableSpec
from spatialseg.network import make_network

SIDE, BATCH = 256, 8


def main() -> None:
    """Write the record."""
    torch.set_num_threads(1)
    spec = TableSpec.read("networks")
    base = yaml.safe_load((EXPERIMENTS / "base.yaml").read_text())["model"] | spec.shared["model"]
    image, batch, target = torch.rand(1, 3, SIDE, SIDE), torch.rand(BATCH, 3, SIDE, SIDE), torch.ones(BATCH, SIDE, SIDE)
    networks, of_arm = {}, {}
    for arm, settings in spec.arms.items():
        model = base | settings["model"]
        key = f"{model['encoder']} {model['network_args']}"
        if key not in networks:
            networks[key] = make_network(model["architecture"], model["encoder"], None, 1, model["network_args"])
            networks[key].to(memory_format=torch.channels_last)
        of_arm[arm] = key

    def predict(network: torch.nn.Module) -> None:
        with torch.inference_mode():
            network.eval()(image.contiguous(memory_format=torch.channels_last))

    def step(network: torch.nn.Module) -> None:
        logits = network.train()(batch.contiguous(memory_format=torch.channels_last))[:, 0]
        F.binary_cross_entropy_with_logits(logits, target).backward()

    predicted = alternate({key: lambda n=network: predict(n) for key, network in networks.items()})
    trained = alternate({key: lambda n=network: step(n) for key, network in networks.items()}, repeats=5)
    rows = {
        arm: {
            "network": key,
            "parameters": sum(each.numel() for each in networks[key].parameters()),
            **predicted[key],
            "step_ms": trained[key]["ms"],
        }
        for arm, key in of_arm.items()
    }
    for key in networks:
        print(f"{key:80} {shown(predicted[key])}  step of {BATCH} {shown(trained[key])}")
    print("Written to", save("networks", {"side": SIDE, "batch": BATCH, "arms": rows}))


if __name__ == "__main__":
    main()
