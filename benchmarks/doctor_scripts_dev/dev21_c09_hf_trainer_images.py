"""Image classification with transformers' Trainer and a network of our own."""

import tempfile

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from toydata import draw_digits


class DigitDataset(Dataset):
    def __init__(self, count, seed, mean=None, std=None):
        images, labels = draw_digits(count, seed=seed)
        pixels = images.float() / 255
        self.mean = pixels.mean() if mean is None else mean
        self.std = pixels.std() if std is None else std
        self.pixels, self.labels = (pixels - self.mean) / self.std, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"pixel_values": self.pixels[index], "labels": self.labels[index]}


class AttentionPool(nn.Module):
    """One learned query looks over all positions."""

    def __init__(self, width):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.attention = nn.MultiheadAttention(width, num_heads=4, batch_first=True)

    def forward(self, tokens):
        query = self.query.expand(len(tokens), -1, -1)
        pooled, _ = self.attention(query, tokens, tokens, need_weights=False)
        return pooled.squeeze(1)


class ConvAttentionClassifier(nn.Module):
    def __init__(self, num_labels=10, width=64):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.GELU(),
            nn.MaxPool2d(2),
        )
        self.position = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.mix = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=128, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.pool = AttentionPool(width)
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, num_labels)
        self.loss_fct = nn.CrossEntropyLoss(label_smoothing=0.05)

    def forward(self, pixel_values, labels=None):
        maps = self.features(pixel_values)
        tokens = maps.flatten(2).transpose(1, 2) + self.position
        logits = self.classifier(self.norm(self.pool(self.mix(tokens))))
        if labels is None:
            return {"logits": logits}
        return {"loss": self.loss_fct(logits, labels), "logits": logits}


def compute_metrics(prediction):
    logits, labels = prediction
    guesses = np.argmax(logits, axis=-1)
    recalls = [float((guesses[labels == c] == c).mean()) for c in range(10)]
    return {"accuracy": float((guesses == labels).mean()), "worst_recall": min(recalls)}


def main():
    set_seed(21)
    train_dataset = DigitDataset(3200, seed=0)
    eval_dataset = DigitDataset(500, seed=1, mean=train_dataset.mean, std=train_dataset.std)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=14,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=125,
            learning_rate=2e-3,
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            warmup_steps=70,
            max_grad_norm=1.0,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=True,
            seed=21,
        )
        trainer = Trainer(
            model=ConvAttentionClassifier(),
            args=arguments,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        metrics = trainer.evaluate()
    print(f"accuracy {metrics['eval_accuracy']:.4f}, worst recall {metrics['eval_worst_recall']:.4f}")


if __name__ == "__main__":
    main()
