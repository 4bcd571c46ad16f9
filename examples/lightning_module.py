"""Our loss and measure in a Lightning module of your own."""

import lightning as L
import torch
from torch import nn

from spatialseg.losses import build_loss
from spatialseg.metrics import WeightedFMeasure


class Segmenter(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 1, 1))
        self.loss, self.measure = build_loss("wfb"), WeightedFMeasure()

    def training_step(self, batch):
        logits = self.network(batch[0])
        self.measure.update(logits.detach().sigmoid(), batch[1][:, None])
        self.log("weighted F", self.measure, on_step=False, on_epoch=True)
        return self.loss(logits, batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.03)


if __name__ == "__main__":
    images = torch.rand(16, 3, 32, 32)
    masks = (nn.functional.avg_pool2d(images.mean(dim=1), 5, 1, 2) > 0.5).long()
    L.Trainer(max_epochs=5).fit(Segmenter(), torch.utils.data.DataLoader(list(zip(images, masks)), batch_size=4))
