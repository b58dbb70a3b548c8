"""Tags of small scenes (several per picture) with the Hugging Face Trainer and a custom model."""
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from toydata import COLORS, NAMES, shape_mask

RATES = {"red square": 0.30, "red disc": 0.15, "red cross": 0.20, "blue square": 0.10, "blue disc": 0.25, "blue cross": 0.12}


def draw_scenes(count, size=24, seed=0):
    """Pictures of four quarters; each quarter is empty or holds one shape. Tags are the names of what is there."""
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        image = torch.full((3, size, size), 0.5)
        tags = [name for name in NAMES if rng.random() < RATES[name]][:4]
        for name, quarter in zip(tags, rng.permutation(4)):
            color, kind = name.split()
            width = int(rng.integers(7, 11))
            top, left = rng.integers(0, size // 2 - width + 1, 2) + (size // 2) * np.array([quarter // 2, quarter % 2])
            image[:, shape_mask(kind, size, int(top), int(left), width)] = torch.tensor(COLORS[color])[:, None]
        noise = torch.from_numpy(rng.normal(0, 0.08, image.shape)).float()
        samples.append({"image": (image + noise).clamp(0, 1), "tags": tags})
    return samples


def build_label_map(samples):
    label2id = {}
    for sample in samples:
        for tag in sample["tags"]:
            if tag not in label2id:
                label2id[tag] = len(label2id)
    return label2id


class SceneDataset(Dataset):
    def __init__(self, samples, label2id):
        self.samples = samples
        self.label2id = label2id

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        sample = self.samples[i]
        labels = torch.zeros(len(self.label2id))
        for tag in sample["tags"]:
            labels[self.label2id[tag]] = 1.0
        return {"pixel_values": (sample["image"] - 0.5) / 0.2, "labels": labels}


class SceneTagger(nn.Module):
    def __init__(self, num_labels, pos_weight):
        super().__init__()
        layers, channels = [], 3
        for width, stride in ((24, 1), (32, 2), (48, 1), (64, 2)):
            layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.classifier = nn.Linear(channels, num_labels)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, pixel_values, labels=None):
        logits = self.classifier(self.pool(self.features(pixel_values)).flatten(1))
        loss = None
        if labels is not None:
            loss = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=self.pos_weight)
        return {"loss": loss, "logits": logits}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    probs = 1 / (1 + np.exp(-logits))
    preds = (probs > 0.5).astype(int)
    return {
        "f1_micro": f1_score(labels, preds, average="micro", zero_division=0),
        "f1_macro": f1_score(labels, preds, average="macro", zero_division=0),
        "mAP": average_precision_score(labels, probs, average="macro"),
        "exact": (preds == labels).all(1).mean(),
    }


def main():
    set_seed(42)
    train_samples, val_samples = draw_scenes(2400, seed=0), draw_scenes(400, seed=1)
    label2id = build_label_map(train_samples)
    train_set = SceneDataset(train_samples, label2id)
    val_set = SceneDataset(val_samples, label2id)

    counts = torch.stack([train_set[i]["labels"] for i in range(len(train_set))]).sum(0)
    pos_weight = (len(train_set) - counts) / counts
    print("labels:", label2id, "pos_weight:", [round(w, 2) for w in pos_weight.tolist()])

    model = SceneTagger(len(label2id), pos_weight)
    with tempfile.TemporaryDirectory() as output_dir:
        args = TrainingArguments(
            output_dir=output_dir,
            num_train_epochs=6,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=100,
            learning_rate=3e-3,
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            warmup_steps=30,
            eval_strategy="epoch",
            save_strategy="no",
            logging_steps=75,
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            dataloader_drop_last=True,
            seed=42,
        )
        trainer = Trainer(model=model, args=args, train_dataset=train_set, eval_dataset=val_set, compute_metrics=compute_metrics)
        trainer.train()
        metrics = trainer.evaluate()
    print({k: round(v, 4) for k, v in metrics.items() if isinstance(v, float)})


if __name__ == "__main__":
    main()
