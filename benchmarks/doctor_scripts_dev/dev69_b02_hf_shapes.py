"""Image classification with the Hugging Face Trainer.

A small ResNet is initialised from a config and trained on synthetic shapes
with an imbalanced class distribution.
"""
import math
import tempfile

import numpy as np
import torch
import torch.nn as nn
from PIL import Image, ImageDraw
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from torch.utils.data import Dataset
from transformers import ResNetConfig, ResNetForImageClassification
from transformers import Trainer, TrainingArguments, set_seed

IMAGE_SIZE = 32
CLASS_COUNTS = {
    "square": 600,
    "circle": 450,
    "triangle": 300,
    "ring": 150,
    "hexagon": 120,
    "cross": 100,
}


def polygon(cx, cy, r, n, angle):
    points = []
    for k in range(n):
        a = angle + 2 * math.pi * k / n
        points.append((cx + r * math.cos(a), cy + r * math.sin(a)))
    return points


def draw_shape(name, rng):
    background = tuple(int(v) for v in rng.integers(0, 110, 3))
    color = tuple(int(v) for v in rng.integers(120, 256, 3))
    img = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), background)
    draw = ImageDraw.Draw(img)
    r = rng.uniform(6, 11)
    cx, cy = rng.uniform(r + 1, IMAGE_SIZE - r - 1, 2)
    angle = rng.uniform(0, 2 * math.pi)
    box = [cx - r, cy - r, cx + r, cy + r]
    if name == "circle":
        draw.ellipse(box, fill=color)
    elif name == "ring":
        draw.ellipse(box, outline=color, width=3)
    elif name == "square":
        draw.polygon(polygon(cx, cy, r, 4, angle), fill=color)
    elif name == "triangle":
        draw.polygon(polygon(cx, cy, r, 3, angle), fill=color)
    elif name == "hexagon":
        draw.polygon(polygon(cx, cy, r, 6, angle), fill=color)
    elif name == "cross":
        p = polygon(cx, cy, r, 4, angle)
        draw.line([p[0], p[2]], fill=color, width=4)
        draw.line([p[1], p[3]], fill=color, width=4)
    pixels = np.asarray(img, dtype=np.float32) + rng.normal(0, 25, (IMAGE_SIZE, IMAGE_SIZE, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def make_shapes(seed):
    rng = np.random.default_rng(seed)
    images, names = [], []
    for name, count in CLASS_COUNTS.items():
        for _ in range(count):
            images.append(draw_shape(name, rng))
            names.append(name)
    return np.stack(images), np.array(names)


class ShapesDataset(Dataset):
    def __init__(self, images, names, mean, std, train=False):
        self.images = images
        self.classes = sorted(CLASS_COUNTS)
        self.class_to_idx = {c: i for i, c in enumerate(self.classes)}
        self.labels = [self.class_to_idx[n] for n in names.tolist()]
        self.mean = torch.tensor(mean, dtype=torch.float32).view(3, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32).view(3, 1, 1)
        self.train = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        image = torch.from_numpy(self.images[idx]).float() / 255.0
        image = image.permute(2, 0, 1)
        image = (image - self.mean) / self.std
        if self.train and torch.rand(1).item() < 0.5:
            image = torch.flip(image, dims=[2])
        return {"pixel_values": image, "labels": self.labels[idx]}


def collate_fn(examples):
    return {
        "pixel_values": torch.stack([e["pixel_values"] for e in examples]),
        "labels": torch.tensor([e["labels"] for e in examples]),
    }


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    preds = np.argmax(logits, axis=-1)
    return {
        "accuracy": accuracy_score(labels, preds),
        "balanced_accuracy": balanced_accuracy_score(labels, preds),
        "macro_f1": f1_score(labels, preds, average="macro"),
    }


class WeightedTrainer(Trainer):
    def __init__(self, *args, class_weights=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.class_weights = class_weights

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = nn.functional.cross_entropy(
            outputs.logits, labels, weight=self.class_weights.to(outputs.logits.device)
        )
        return (loss, outputs) if return_outputs else loss


def main():
    set_seed(0)
    images, names = make_shapes(seed=0)
    train_idx, rest_idx = train_test_split(
        np.arange(len(names)), test_size=0.4, stratify=names, random_state=0
    )
    val_idx, test_idx = train_test_split(
        rest_idx, test_size=0.5, stratify=names[rest_idx], random_state=0
    )

    train_pixels = images[train_idx] / 255.0
    mean, std = train_pixels.mean(axis=(0, 1, 2)), train_pixels.std(axis=(0, 1, 2))
    train_ds = ShapesDataset(images[train_idx], names[train_idx], mean, std, train=True)
    val_ds = ShapesDataset(images[val_idx], names[val_idx], mean, std)
    test_ds = ShapesDataset(images[test_idx], names[test_idx], mean, std)

    counts = np.bincount(train_ds.labels, minlength=len(CLASS_COUNTS))
    weights = counts.sum() / (len(counts) * np.maximum(counts, 1))

    config = ResNetConfig(
        num_channels=3,
        embedding_size=16,
        hidden_sizes=[16, 32, 64],
        depths=[1, 1, 1],
        layer_type="basic",
        num_labels=len(CLASS_COUNTS),
        id2label={i: c for c, i in train_ds.class_to_idx.items()},
        label2id=train_ds.class_to_idx,
    )
    model = ResNetForImageClassification(config)

    with tempfile.TemporaryDirectory() as output_dir:
        training_args = TrainingArguments(
            output_dir=output_dir,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=128,
            num_train_epochs=12,
            learning_rate=3e-3,
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            warmup_steps=30,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="balanced_accuracy",
            greater_is_better=True,
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=0,
        )
        trainer = WeightedTrainer(
            model=model,
            args=training_args,
            train_dataset=train_ds,
            eval_dataset=val_ds,
            data_collator=collate_fn,
            compute_metrics=compute_metrics,
            class_weights=torch.tensor(weights, dtype=torch.float32),
        )
        trainer.train()
        metrics = trainer.evaluate(test_ds, metric_key_prefix="test")
    for key in ("test_loss", "test_accuracy", "test_balanced_accuracy", "test_macro_f1"):
        print(f"{key:24s} {metrics[key]:.4f}")


if __name__ == "__main__":
    main()
