"""Semantic segmentation of shapes with a small DeepLab-like network of one's own and the Hugging Face Trainer."""

import random
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from toydata import Shapes

SIZE = 24
VOID = 255  # label of pixels that nobody annotated
id2label = {0: "background", 1: "square", 2: "disc", 3: "cross"}
num_labels = len(id2label)

set_seed(42)


def augment(image, mask, reach=3):
    """Flip and shift an image together with its mask; what comes in from outside is void."""
    if random.random() < 0.5:
        image, mask = image.flip(-1), mask.flip(-1)
    if random.random() < 0.5:
        image, mask = image.flip(-2), mask.flip(-2)
    top, left = random.randint(0, 2 * reach), random.randint(0, 2 * reach)
    image = F.pad(image, (reach,) * 4, value=0.5)[:, top : top + SIZE, left : left + SIZE]
    mask = F.pad(mask, (reach,) * 4, value=VOID)[top : top + SIZE, left : left + SIZE]
    return image, mask


class SegmentationDataset(Dataset):
    def __init__(self, samples, train):
        self.samples = samples
        self.train = train
        self.mean, self.std = 0.5, 0.2

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, idx):
        image, mask = self.samples[idx]
        if self.train:
            image, mask = augment(image, mask)
        return {"pixel_values": (image - self.mean) / self.std, "labels": mask}


pool = Shapes(train=True, count=1200, size=SIZE)
samples = list(zip(pool.images, pool.masks))
random.Random(0).shuffle(samples)
eval_samples, train_samples = samples[:200], samples[200:]
train_dataset = SegmentationDataset(train_samples, train=True)
eval_dataset = SegmentationDataset(eval_samples, train=False)
print(len(train_dataset), "training images,", len(eval_dataset), "for evaluation")


class ConvBNReLU(nn.Sequential):
    def __init__(self, cin, cout, kernel=3, stride=1, dilation=1):
        super().__init__(
            nn.Conv2d(cin, cout, kernel, stride, dilation * (kernel // 2), dilation=dilation, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU(),
        )


class MiniDeepLab(nn.Module):
    def __init__(self, num_labels):
        super().__init__()
        self.stem = ConvBNReLU(3, 12)
        self.context = nn.Sequential(
            ConvBNReLU(12, 24, stride=2),
            ConvBNReLU(24, 32),
            ConvBNReLU(32, 32, dilation=2),
            ConvBNReLU(32, 32, dilation=4),
        )
        self.decoder = nn.Sequential(ConvBNReLU(12 + 32, 24, kernel=1), nn.Conv2d(24, num_labels, 1))

    def forward(self, pixel_values, labels=None):
        low = self.stem(pixel_values)
        high = self.context(low)
        high = F.interpolate(high, size=low.shape[-2:], mode="bilinear", align_corners=False)
        logits = self.decoder(torch.cat([low, high], dim=1))
        if labels is None:
            return {"logits": logits}
        loss = F.cross_entropy(logits, labels, ignore_index=VOID)
        return {"loss": loss, "logits": logits}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=1)
    # the masks of the evaluation set have no void pixels
    pairs = labels.reshape(-1) * num_labels + predictions.reshape(-1)
    confusion = np.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels)
    inter = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - inter
    iou = inter / np.maximum(union, 1)
    metrics = {"mean_iou": float(iou.mean()), "pixel_accuracy": float(inter.sum() / confusion.sum())}
    metrics.update({f"iou_{id2label[i]}": float(iou[i]) for i in range(num_labels)})
    return metrics


with tempfile.TemporaryDirectory() as output_dir:
    training_args = TrainingArguments(
        output_dir=output_dir,
        num_train_epochs=12,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=50,
        learning_rate=4e-3,
        weight_decay=0.01,
        lr_scheduler_type="cosine",
        warmup_steps=30,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        use_cpu=True,
        seed=42,
    )

    trainer = Trainer(
        model=MiniDeepLab(num_labels),
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    metrics = trainer.evaluate()

print("final mean IoU: %.3f" % metrics["eval_mean_iou"])
