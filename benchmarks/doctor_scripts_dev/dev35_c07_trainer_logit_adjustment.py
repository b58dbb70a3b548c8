#!/usr/bin/env python
"""Long-tailed waves with the Hugging Face Trainer and logit adjustment (Menon et al., 2021)."""

import logging
import tempfile
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, recall_score
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from toydata import waves

logger = logging.getLogger(__name__)


@dataclass
class DataArguments:
    class_counts: tuple = field(default=(400, 200, 100, 50), metadata={"help": "Training signals of each class."})
    pool_size: int = 2400
    eval_size: int = 400


@dataclass
class ModelArguments:
    width: int = 32
    dropout: float = 0.1
    tau: float = 1.0


class WaveDataset(Dataset):
    def __init__(self, signals, labels):
        self.signals, self.labels = signals, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"signal": self.signals[index], "labels": int(self.labels[index])}


class WaveClassifier(nn.Module):
    def __init__(self, width, dropout, num_labels=4):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv1d(1, width, 7, padding=3), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(width, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(width, 2 * width, 5, padding=2), nn.BatchNorm1d(2 * width), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * width, num_labels)

    def forward(self, signal, labels=None):
        return {"logits": self.classifier(self.dropout(self.backbone(signal)))}


class LogitAdjustedTrainer(Trainer):
    """The evaluation set is balanced, the training set is not: training adds the log of the class shares."""

    def __init__(self, *args, log_prior, tau=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.adjustment = tau * log_prior

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs["labels"]
        outputs = model(**inputs)
        logits = outputs["logits"]
        if model.training:
            logits = logits + self.adjustment
        loss = F.cross_entropy(logits, labels)
        return (loss, {"logits": logits}) if return_outputs else loss


def compute_metrics(prediction):
    guesses = np.argmax(prediction.predictions, axis=-1)
    recalls = recall_score(prediction.label_ids, guesses, average=None, labels=[0, 1, 2, 3])
    metrics = {f"recall_{i}": float(recall) for i, recall in enumerate(recalls)}
    metrics["balanced_accuracy"] = float(balanced_accuracy_score(prediction.label_ids, guesses))
    return metrics


def long_tailed(data_args):
    signals, labels = waves(data_args.pool_size, seed=0)
    kept = [(labels == c).nonzero().flatten()[:count] for c, count in enumerate(data_args.class_counts)]
    kept = torch.cat(kept)
    return WaveDataset(signals[kept], labels[kept])


def main():
    data_args, model_args = DataArguments(), ModelArguments()
    set_seed(17)
    train_dataset = long_tailed(data_args)
    eval_dataset = WaveDataset(*waves(data_args.eval_size, seed=1))
    counts = torch.bincount(train_dataset.labels, minlength=4).float()
    logger.warning("class counts: %s", counts.long().tolist())

    with tempfile.TemporaryDirectory() as output_dir:
        training_args = TrainingArguments(
            output_dir=output_dir,
            num_train_epochs=15,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=100,
            learning_rate=3e-3,
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            warmup_steps=20,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=True,
            seed=17,
        )
        trainer = LogitAdjustedTrainer(
            model=WaveClassifier(model_args.width, model_args.dropout),
            args=training_args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            compute_metrics=compute_metrics,
            log_prior=(counts / counts.sum()).log(),
            tau=model_args.tau,
        )
        trainer.train()
        metrics = trainer.evaluate()
    print("final balanced accuracy", round(metrics["eval_balanced_accuracy"], 4))


if __name__ == "__main__":
    main()
