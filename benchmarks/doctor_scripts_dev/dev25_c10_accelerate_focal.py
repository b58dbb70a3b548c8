"""Classification of signals with Accelerate: accumulation over two batches, focal loss, warmup and cosine."""

import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


class FocalLoss(nn.Module):
    def __init__(self, gamma=1.5):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, target):
        ce = F.cross_entropy(logits, target, reduction="none")
        pt = torch.exp(-ce)
        return ((1 - pt) ** self.gamma * ce).mean()


class ResBlock1d(nn.Module):
    def __init__(self, inputs, outputs, kernel):
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm1d(outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn2 = nn.BatchNorm1d(outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.skip(x))


class WaveNet1d(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.layers = nn.Sequential(
            ResBlock1d(1, 24, 7), nn.MaxPool1d(2), ResBlock1d(24, 48, 5), nn.MaxPool1d(2), ResBlock1d(48, 64, 5)
        )
        self.classifier = nn.Linear(64, classes)

    def forward(self, x):
        return self.classifier(self.layers(x).mean(dim=-1))


def get_dataloaders(batch_size):
    train_x, train_y = waves(2560, seed=0)
    eval_x, eval_y = waves(600, seed=1)
    mean, std = train_x.mean(), train_x.std()
    train = TensorDataset((train_x - mean) / std, train_y)
    evaluation = TensorDataset((eval_x - mean) / std, eval_y)
    return DataLoader(train, batch_size=batch_size, shuffle=True, drop_last=True), DataLoader(evaluation, batch_size=100)


def training_function(config, args):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.gradient_accumulation_steps)
    set_seed(config["seed"])
    train_dataloader, eval_dataloader = get_dataloaders(config["batch_size"])
    model = WaveNet1d()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.01)
    updates_per_epoch = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
    total, warmup = config["num_epochs"] * updates_per_epoch, config["warmup_updates"]

    def schedule(update):
        if update < warmup:
            return (update + 1) / warmup
        return max(0.01, 0.5 * (1 + math.cos(math.pi * (update - warmup) / (total - warmup))))

    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )
    criterion = FocalLoss()

    for epoch in range(config["num_epochs"]):
        model.train()
        total_loss = 0.0
        for inputs, targets in train_dataloader:
            with accelerator.accumulate(model):
                loss = criterion(model(inputs), targets)
                accelerator.backward(loss)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
            total_loss += loss.item()

        model.eval()
        correct, seen = 0, 0
        for inputs, targets in eval_dataloader:
            with torch.no_grad():
                predictions = model(inputs).argmax(dim=-1)
            predictions, references = accelerator.gather_for_metrics((predictions, targets))
            correct += (predictions == references).sum().item()
            seen += references.shape[0]
        accelerator.print(f"epoch {epoch}: train loss {total_loss / len(train_dataloader):.4f}, eval accuracy {100 * correct / seen:.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gradient_accumulation_steps", type=int, default=2)
    args = parser.parse_args()
    config = {"lr": 3e-3, "num_epochs": 14, "seed": 42, "batch_size": 32, "warmup_updates": 40}
    training_function(config, args)


if __name__ == "__main__":
    main()
