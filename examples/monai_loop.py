"""Our loss and measure in place of MONAI's, around a MONAI network: make test-examples."""

import torch
from monai.data import DataLoader, Dataset
from monai.networks.nets import BasicUNet
from monai.transforms import Compose, RandFlipd, ToTensord

from spatialseg.losses import build_loss
from spatialseg.metrics import WeightedFMeasure

torch.manual_seed(0)
images = torch.rand(8, 3, 32, 32)
masks = (torch.nn.functional.avg_pool2d(images.mean(dim=1, keepdim=True), 5, 1, 2) > 0.5).long()
items = [{"image": image, "label": label} for image, label in zip(images, masks)]
keys = ["image", "label"]
loader = DataLoader(Dataset(items, Compose([RandFlipd(keys, prob=0.5), ToTensord(keys)])), batch_size=4, shuffle=True)
network = BasicUNet(2, in_channels=3, out_channels=1, features=(8, 8, 16, 16, 16, 8))
loss, measure = build_loss("wfb"), WeightedFMeasure()  # targets may be (N, 1, H, W), as MONAI has them
optimizer = torch.optim.Adam(network.parameters(), lr=0.003)

for epoch in range(5):
    for batch in loader:
        logits = network(batch["image"])
        value = loss(logits, batch["label"])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        measure.update(logits.detach().sigmoid(), batch["label"])
    print(f"epoch {epoch}: loss {value:.3f}, weighted F {measure.compute():.3f}")
    measure.reset()
