# A fully working simple example of using Accelerate: a 1D network tells waves apart.
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import toydata

EVAL_BATCH_SIZE = 100


class WaveClassifier(nn.Module):
    def __init__(self, num_labels=4, width=16, dropout=0.1):
        super().__init__()
        self.encoder = nn.Sequential(
            self.layer(1, width, 7),
            nn.MaxPool1d(2),
            self.layer(width, 2 * width, 5),
            nn.MaxPool1d(2),
            self.layer(2 * width, 3 * width, 7),
        )
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(3 * width, num_labels)

    @staticmethod
    def layer(inputs, outputs, kernel):
        return nn.Sequential(
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(outputs),
            nn.ReLU(),
        )

    def forward(self, signals):
        hidden = self.pool(self.encoder(signals)).squeeze(-1)
        return self.classifier(self.dropout(hidden))


def get_dataloaders(batch_size):
    train_set = TensorDataset(*toydata.waves(1200, seed=0))
    eval_set = TensorDataset(*toydata.waves(300, seed=1))
    train_dataloader = DataLoader(train_set, shuffle=True, batch_size=batch_size)
    eval_dataloader = DataLoader(eval_set, shuffle=False, batch_size=EVAL_BATCH_SIZE)
    return train_dataloader, eval_dataloader


def training_function(config, args):
    accelerator = Accelerator(cpu=not args.gpu)
    lr, num_epochs = config["lr"], int(config["num_epochs"])
    set_seed(int(config["seed"]))

    train_dataloader, eval_dataloader = get_dataloaders(int(config["batch_size"]))
    model = WaveClassifier()
    optimizer = AdamW(params=model.parameters(), lr=lr, weight_decay=1e-3)
    lr_scheduler = OneCycleLR(optimizer, max_lr=lr, epochs=num_epochs, steps_per_epoch=len(train_dataloader))

    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )

    for epoch in range(num_epochs):
        model.train()
        total_loss, seen = 0.0, 0
        for signals, labels in train_dataloader:
            logits = model(signals)
            loss = F.cross_entropy(logits, labels)
            accelerator.backward(loss)
            total_loss += loss.detach().float() * len(labels)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            seen += len(labels)

        model.eval()
        correct, samples, eval_loss = 0, 0, 0.0
        for signals, labels in eval_dataloader:
            with torch.no_grad():
                logits = model(signals)
            logits, labels = accelerator.gather_for_metrics((logits, labels))
            eval_loss += F.cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(dim=-1) == labels).sum().item()
            samples += len(labels)

        accelerator.print(
            f"epoch {epoch}: train loss {total_loss.item() / seen:.4f}, "
            f"eval loss {eval_loss / samples:.4f}, accuracy {correct / samples:.4f}"
        )
    accelerator.end_training()


def main():
    parser = argparse.ArgumentParser(description="Simple example of training script.")
    parser.add_argument("--gpu", action="store_true", help="If passed, will train on the GPU, if there is one.")
    args = parser.parse_args()
    config = {"lr": 4e-3, "num_epochs": 12, "seed": 42, "batch_size": 64}
    training_function(config, args)


if __name__ == "__main__":
    main()
