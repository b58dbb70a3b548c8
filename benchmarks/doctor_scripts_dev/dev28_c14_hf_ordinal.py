"""Ordinal ratings with the Hugging Face Trainer: one score, ordered thresholds, an optimizer of one's own."""
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

GRADES = 5


class Ratings(Dataset):
    """Ten measurements of a wine, a grade of 0 to 4."""

    limits = torch.tensor([-1.3, -0.4, 0.4, 1.3])

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.features = torch.randn(count, 10, generator=generator)
        x = self.features
        taste = x[:, 0] + 0.8 * x[:, 1] * x[:, 2] + 0.7 * torch.sin(2 * x[:, 3]) - 0.5 * x[:, 4].abs() + 0.4
        taste = taste + 0.1 * torch.randn(count, generator=generator)
        self.grades = torch.bucketize(taste, self.limits)

    def __len__(self):
        return len(self.grades)

    def __getitem__(self, index):
        return {"features": self.features[index], "labels": int(self.grades[index])}


class Ordinal(nn.Module):
    """The logit of "better than grade k" is the score less threshold k. All of them share one score."""

    def __init__(self, width=64):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(10, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.first = nn.Parameter(torch.tensor(-1.5))
        self.gaps = nn.Parameter(torch.full((GRADES - 2,), 0.5))

    def thresholds(self):
        return torch.cat([self.first.view(1), self.first + F.softplus(self.gaps).cumsum(0)])

    def forward(self, features, labels=None):
        logits = self.score(features) - self.thresholds()
        result = {"logits": logits}
        if labels is not None:
            levels = (labels.unsqueeze(1) > torch.arange(GRADES - 1, device=labels.device)).float()
            result["loss"] = F.binary_cross_entropy_with_logits(logits, levels)
        return result


def metrics(prediction):
    logits, grades = prediction.predictions, prediction.label_ids
    guess = (logits > 0).sum(axis=1)
    return {"accuracy": float(np.mean(guess == grades)), "grades_off": float(np.mean(np.abs(guess - grades)))}


def main():
    torch.manual_seed(15)
    torch.set_num_threads(1)
    model = Ordinal()
    optimizer = torch.optim.NAdam(
        [
            {"params": model.score.parameters(), "lr": 2e-3, "weight_decay": 1e-4},
            {"params": [model.first, model.gaps], "lr": 1e-2},
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=14,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=100,
            lr_scheduler_type="cosine",
            warmup_steps=30,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            seed=15,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=Ratings(2400, seed=60),
            eval_dataset=Ratings(600, seed=61),
            compute_metrics=metrics,
            optimizers=(optimizer, None),
        )
        trainer.train()
        print(trainer.evaluate())


if __name__ == "__main__":
    main()
