"""Which kinds of shapes are in the picture? Multi-label classification with the Hugging Face Trainer."""
import tempfile

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

KINDS = ["square", "disc", "cross", "ring"]
COLORS = np.array([[0.9, 0.2, 0.2], [0.2, 0.8, 0.3], [0.2, 0.3, 0.9], [0.9, 0.8, 0.2]])


def stamp(kind, width):
    y, x = np.mgrid[:width, :width] - (width - 1) / 2
    radius = np.sqrt(y**2 + x**2)
    if kind == "square":
        return np.ones((width, width), dtype=bool)
    if kind == "disc":
        return radius <= width / 2
    if kind == "cross":
        return (np.abs(y) <= 1) | (np.abs(x) <= 1)
    return (radius <= width / 2) & (radius >= width / 2 - 2)


def make_split(count, seed, classes):
    """Pictures of 24 x 24 with up to four shapes, one to a quarter, and a 0/1 vector of the kinds."""
    rng = np.random.default_rng(seed)
    images = np.full((count, 24, 24, 3), 0.5)
    labels = np.zeros((count, len(classes)), dtype=np.float32)
    for i in range(count):
        cells = rng.permutation(4)
        for cell, kind in zip(cells, KINDS):
            if rng.random() > 0.4:
                continue
            width = int(rng.integers(9, 12))
            top = 12 * (cell // 2) + int(rng.integers(0, 13 - width))
            left = 12 * (cell % 2) + int(rng.integers(0, 13 - width))
            patch = images[i, top : top + width, left : left + width]
            patch[stamp(kind, width)] = COLORS[rng.integers(0, len(COLORS))]
            labels[i, classes.index(kind)] = 1.0
    images = images + 0.05 * rng.standard_normal(images.shape)
    pixels = torch.tensor((images - 0.5) / 0.25, dtype=torch.float32).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.from_numpy(labels)


class ShapesInPicture(Dataset):
    def __init__(self, pixels, labels):
        self.pixels, self.labels = pixels, labels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return {"pixel_values": self.pixels[index], "labels": self.labels[index]}


class ConvTagger(nn.Module):
    def __init__(self, num_labels):
        super().__init__()

        def block(inputs, outputs):
            return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]

        self.features = nn.Sequential(
            *block(3, 24), nn.MaxPool2d(2), *block(24, 48), nn.MaxPool2d(2), *block(48, 64), nn.AdaptiveMaxPool2d(1)
        )
        self.classifier = nn.Linear(64, num_labels)
        self.loss_fct = nn.BCEWithLogitsLoss()

    def forward(self, pixel_values, labels=None):
        logits = self.classifier(self.features(pixel_values).flatten(1))
        if labels is None:
            return {"logits": logits}
        loss = self.loss_fct(logits, labels)
        return {"loss": loss, "logits": logits}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = logits > 0
    truth = labels > 0.5
    hits = (predictions & truth).sum(axis=0)
    f1 = 2 * hits / np.maximum(predictions.sum(axis=0) + truth.sum(axis=0), 1)
    return {"macro_f1": float(f1.mean()), "exact_match": float((predictions == truth).all(axis=1).mean())}


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train_dataset = ShapesInPicture(*make_split(1600, seed=1, classes=KINDS))
    eval_dataset = ShapesInPicture(*make_split(400, seed=2, classes=KINDS))
    with tempfile.TemporaryDirectory() as folder:
        training_args = TrainingArguments(
            output_dir=folder,
            num_train_epochs=12,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=100,
            learning_rate=3e-3,
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            warmup_steps=30,
            eval_strategy="epoch",
            save_strategy="no",
            logging_steps=50,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            remove_unused_columns=False,
            label_names=["labels"],
            seed=0,
        )
        trainer = Trainer(
            model=ConvTagger(num_labels=len(KINDS)),
            args=training_args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        result = trainer.evaluate()
    print(f"final macro F1 {result['eval_macro_f1']:.3f}, exact match {result['eval_exact_match']:.3f}")


if __name__ == "__main__":
    main()
