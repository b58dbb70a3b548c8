# Tiny hybrid vision transformer on an imbalanced set of signs, trained with the Hugging Face Trainer.
import tempfile

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torch.utils.data import Dataset, random_split
from transformers import Trainer, TrainingArguments, set_seed

from toydata import NAMES, Shapes

id2label = dict(enumerate(NAMES))
KEEP = torch.tensor([1.0, 0.4, 0.12, 1.0, 0.4, 0.12])  # how often each sign was photographed


class Signs(Dataset):
    def __init__(self, count, noise=0.03, seed=0):
        base = Shapes(train=True, count=count)
        g = torch.Generator().manual_seed(seed)
        targets = torch.tensor(base.targets)
        chosen = torch.rand(count, generator=g) < KEEP[targets]
        self.labels = targets[chosen]
        pixels = torch.stack(base.images)[chosen]
        self.pixels = (pixels + noise * torch.randn(pixels.shape, generator=g) - 0.5) / 0.25

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"pixel_values": self.pixels[index], "labels": self.labels[index]}


class WithTransform(Dataset):
    """What `dataset.with_transform` does in datasets: random flips of the training images."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        item = dict(self.dataset[index])
        for axis in (-1, -2):
            if torch.rand(()) < 0.5:
                item["pixel_values"] = item["pixel_values"].flip(axis)
        return item


def collate_fn(examples):
    return {
        "pixel_values": torch.stack([example["pixel_values"] for example in examples]),
        "labels": torch.stack([example["labels"] for example in examples]),
    }


class TinyViTForImageClassification(nn.Module):
    def __init__(self, num_labels, class_weights, dim=48, depth=2, heads=4):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, dim // 2, 3, padding=1, bias=False), nn.BatchNorm2d(dim // 2), nn.GELU(),
            nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(dim), nn.GELU(),
            nn.Conv2d(dim, dim, 3, stride=2, padding=1),
        )
        self.position = nn.Parameter(0.02 * torch.randn(1, 16, dim))
        self.blocks = nn.ModuleList([
            nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.1, batch_first=True, norm_first=True)
            for _ in range(depth)
        ])
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, num_labels)
        self.loss_fn = nn.CrossEntropyLoss(weight=class_weights)

    def forward(self, pixel_values, labels=None):
        hidden = self.stem(pixel_values).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            hidden = block(hidden)
        logits = self.classifier(self.norm(hidden).mean(dim=1))
        outputs = {"logits": logits}
        if labels is not None:
            outputs = {"loss": self.loss_fn(logits, labels), "logits": logits}
        return outputs


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=1)
    return {
        "accuracy": accuracy_score(labels, predictions),
        "balanced_accuracy": balanced_accuracy_score(labels, predictions),
    }


def main():
    set_seed(0)
    dataset = Signs(count=3600)
    train_split, val_split = random_split(dataset, [0.75, 0.25], generator=torch.Generator().manual_seed(42))

    counts = torch.bincount(dataset.labels[train_split.indices], minlength=len(NAMES)).float()
    print("training images:", {id2label[i]: int(n) for i, n in enumerate(counts)})
    class_weights = counts.sum() / (len(NAMES) * counts)

    model = TinyViTForImageClassification(len(NAMES), class_weights)
    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=14,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=128,
        learning_rate=2e-3,
        weight_decay=0.05,
        lr_scheduler_type="cosine",
        warmup_steps=40,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        seed=0,
    )
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=WithTransform(train_split),
        eval_dataset=val_split,
        data_collator=collate_fn,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    metrics = trainer.evaluate()
    print({name: round(value, 4) for name, value in metrics.items() if "accuracy" in name or "loss" in name})


if __name__ == "__main__":
    main()
