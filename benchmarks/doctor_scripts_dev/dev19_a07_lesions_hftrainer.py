"""Grading lesions in patches of scans (benign, suspicious, malignant; few of the last) with the Trainer of Hugging Face."""
import tempfile

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

CLASSES = ["benign", "suspicious", "malignant"]
PRIORS = [0.78, 0.15, 0.07]
SIZE = 24


def make_scans(count, seed):
    """Patches with 12-bit intensities: smooth spots, spots with a bright core, spots with a spiky outline."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=count, p=PRIORS)
    y, x = np.mgrid[:SIZE, :SIZE]
    scans = np.zeros((count, SIZE, SIZE), dtype=np.float32)
    for i, label in enumerate(labels):
        cy, cx = rng.uniform(9, 14, 2)
        radius = rng.uniform(4.5, 7)
        angle = np.arctan2(y - cy, x - cx)
        distance = np.hypot(y - cy, x - cx)
        spikes = 2.2 * np.cos(6 * angle + rng.uniform(0, 6.3)) if label == 2 else 0.0
        outline = 1 / (1 + np.exp(1.5 * (distance - radius - spikes)))
        image = 900 + rng.uniform(800, 1300) * outline
        if label == 1:
            image += rng.uniform(350, 700) * np.exp(-(distance / 2.5) ** 2)
        image += 250 * rng.standard_normal((SIZE, SIZE))
        scans[i] = image.clip(0, 4095)
    return scans, labels


class ScanDataset(Dataset):
    def __init__(self, scans, labels, mean, std):
        self.scans, self.labels = scans, labels
        self.mean, self.std = mean, std

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        pixels = torch.from_numpy(self.scans[index]).unsqueeze(0)
        pixels = (pixels - self.mean) / self.std
        return {"pixel_values": pixels, "labels": int(self.labels[index])}


class LesionNet(nn.Module):
    def __init__(self, num_labels):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(nn.Linear(32 * 9, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, num_labels))

    def forward(self, pixel_values, labels=None):
        return {"logits": self.classifier(self.encoder(pixel_values))}


class WeightedTrainer(Trainer):
    def __init__(self, *args, class_weights=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.class_weights = class_weights

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        logits = outputs["logits"]
        weights = self.class_weights.to(logits.device)
        loss = nn.functional.cross_entropy(logits, labels, weight=weights)
        return (loss, outputs) if return_outputs else loss


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return {
        "balanced_accuracy": balanced_accuracy_score(labels, predictions),
        "macro_f1": f1_score(labels, predictions, average="macro"),
        "accuracy": float((predictions == labels).mean()),
    }


def main():
    set_seed(21)
    scans, labels = make_scans(2000, seed=4)
    train_x, val_x, train_y, val_y = train_test_split(scans, labels, test_size=0.25, stratify=labels, random_state=0)
    mean, std = float(train_x.mean()), float(train_x.std())
    train_set = ScanDataset(train_x, train_y, mean, std)
    val_set = ScanDataset(val_x, val_y, mean, std)
    counts = np.bincount(train_y, minlength=3)
    class_weights = torch.tensor(counts.sum() / (3 * counts), dtype=torch.float32).sqrt()
    print("counts", counts.tolist(), "weights", class_weights.tolist())

    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            num_train_epochs=12,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=125,
            learning_rate=2e-3,
            lr_scheduler_type="cosine",
            warmup_steps=40,
            weight_decay=0.01,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = WeightedTrainer(
            model=LesionNet(len(CLASSES)),
            args=args,
            train_dataset=train_set,
            eval_dataset=val_set,
            compute_metrics=compute_metrics,
            class_weights=class_weights,
        )
        trainer.train()
        print(trainer.evaluate())


if __name__ == "__main__":
    main()
