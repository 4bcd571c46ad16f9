"""Our loss and measure with several classes, in a loop around a network of Segmentation Models PyTorch."""

import segmentation_models_pytorch as smp
import torch

from spatialseg.losses import build_loss
from spatialseg.metrics import MeanIoU

torch.manual_seed(0)
images = torch.rand(8, 3, 32, 32)
masks = torch.nn.functional.avg_pool2d(images, 5, 1, 2).argmax(dim=1)  # the class index, or 255
network = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(32, 16, 8), classes=3)
loss = build_loss(["ce", {"name": "lal", "args": {"window": 5}}])  # in place of smp.losses.DiceLoss("multiclass")
optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
measure = MeanIoU(classes=3)

for epoch in range(5):
    network.train()
    for batch in torch.randperm(8).split(4):
        value = loss(network(images[batch]), masks[batch])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        measure.update(network(images).softmax(dim=1), masks)
    print(f"epoch {epoch}: loss {value:.3f}, mean IoU {measure.compute():.3f}")
    measure.reset()
