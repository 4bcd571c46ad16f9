"""Our loss and measure in Hugging Face's Trainer, around a SegFormer made from a configuration: make test-examples."""

import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation, Trainer, TrainingArguments

from spatialseg.losses import build_loss
from spatialseg.metrics import MeanIoU

torch.manual_seed(0)
images = torch.rand(8, 3, 64, 64)
masks = torch.nn.functional.avg_pool2d(images, 9, 1, 4).argmax(dim=1)  # the class index, or 255
data = [{"pixel_values": image, "labels": mask} for image, mask in zip(images, masks)]
sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "decoder_hidden_size": 32}
network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=3, **sizes))
loss = build_loss(["ce", "wfb"])


def compute_loss(output, labels, num_items_in_batch=None):
    return loss(torch.nn.functional.interpolate(output.logits, labels.shape[1:], mode="bilinear"), labels)


def compute_metrics(found):
    logits = torch.nn.functional.interpolate(torch.tensor(found.predictions), found.label_ids.shape[1:])
    return {"mean_iou": float(MeanIoU(classes=3)(logits.softmax(dim=1), torch.tensor(found.label_ids)))}


options = TrainingArguments("runs/huggingface", num_train_epochs=5, logging_strategy="epoch", learning_rate=0.003)
options.report_to, options.save_strategy, options.eval_strategy = [], "no", "epoch"
Trainer(network, options, None, data, data, compute_loss_func=compute_loss, compute_metrics=compute_metrics).train()
