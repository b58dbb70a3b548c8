"""Waves of four kinds with the Trainer of transformers: own loss with mixup and label smoothing, own metrics."""
import tempfile

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from toydata import waves


class WaveDataset(Dataset):
    def __init__(self, count, seed, augment=False):
        self.signals, self.labels = waves(count, seed=seed)
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        signal = self.signals[index]
        if self.augment:
            if torch.rand(()) < 0.5:
                signal = -signal  # a wave upside down is a wave of the same kind
            signal = signal * (0.8 + 0.4 * torch.rand(()))
        return {"signals": signal, "labels": self.labels[index]}


class Residual(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation, bias=False),
            nn.BatchNorm1d(width), nn.ReLU(), nn.Conv1d(width, width, 1, bias=False), nn.BatchNorm1d(width),
        )

    def forward(self, x):
        return torch.relu(x + self.net(x))


class WaveNet(nn.Module):
    """Gives a dict, as the Trainer wants it; the loss is there when labels are."""

    def __init__(self, width=48, classes=4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, width, 7, padding=3, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        self.blocks = nn.Sequential(Residual(width, 1), Residual(width, 2), Residual(width, 4))
        self.head = nn.Linear(2 * width, classes)

    def forward(self, signals, labels=None):
        hidden = self.blocks(self.stem(signals))
        logits = self.head(torch.cat([hidden.mean(2), hidden.amax(2)], dim=1))
        output = {"logits": logits}
        if labels is not None:
            output = {"loss": nn.functional.cross_entropy(logits, labels), **output}
        return output


class MixupTrainer(Trainer):
    alpha, smoothing = 0.2, 0.05

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        if return_outputs or not model.training:
            outputs = model(**inputs)
            return (outputs["loss"], outputs) if return_outputs else outputs["loss"]
        signals, labels = inputs["signals"], inputs["labels"]
        share = float(np.random.beta(self.alpha, self.alpha))
        share = max(share, 1 - share)
        other = torch.randperm(len(signals))
        logits = model(signals=share * signals + (1 - share) * signals[other])["logits"]
        criterion = nn.CrossEntropyLoss(label_smoothing=self.smoothing)
        return share * criterion(logits, labels) + (1 - share) * criterion(logits, labels[other])


def compute_metrics(prediction):
    logits = prediction.predictions
    if isinstance(logits, tuple):
        logits = logits[0]
    guesses, labels = np.argmax(logits, axis=-1), prediction.label_ids
    result = {"accuracy": float((guesses == labels).mean()), "f1": float(f1_score(labels, guesses, average="macro"))}
    print({name: round(value, 4) for name, value in result.items()}, flush=True)
    return result


def main():
    set_seed(8)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            num_train_epochs=12,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=100,
            learning_rate=3e-3,
            weight_decay=0.01,
            warmup_steps=40,
            lr_scheduler_type="cosine",
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            disable_tqdm=True,
            use_cpu=True,
            seed=8,
        )
        trainer = MixupTrainer(
            model=WaveNet(),
            args=args,
            train_dataset=WaveDataset(1600, seed=0, augment=True),
            eval_dataset=WaveDataset(400, seed=1),
            compute_metrics=compute_metrics,
        )
        trainer.train()
        final = trainer.evaluate()
        print(f"final: loss {final['eval_loss']:.4f} accuracy {final['eval_accuracy']:.4f}")


if __name__ == "__main__":
    main()
