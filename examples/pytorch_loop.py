"""Two of our losses and a measure in a bare PyTorch loop."""

import torch
from torch import nn

from spatialseg.losses import build_loss
from spatialseg.metrics import WeightedFMeasure

torch.manual_seed(0)
images = torch.rand(16, 3, 32, 32)
masks = (nn.functional.avg_pool2d(images.mean(dim=1), 5, 1, 2) > 0.5).long()  # 0, 1, or 255 where nothing is known
network = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 1, 1))
loss = build_loss(["wfb", {"name": "bce", "weight": 0.5}])
optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
measure = WeightedFMeasure()

for epoch in range(5):
    for batch in torch.randperm(16).split(4):
        value = loss(network(images[batch]), masks[batch])  # logits (N, 1, H, W), masks (N, H, W)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        measure.update(network(images).sigmoid(), masks[:, None])
    print(f"epoch {epoch}: loss {value:.3f}, weighted F {measure.compute():.3f}")
    measure.reset()
