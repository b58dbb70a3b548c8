"""Digits with blended batches, two of them to a step."""
import math

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

config = {
    "lr": 4e-3,
    "num_epochs": 16,
    "seed": 42,
    "batch_size": 48,
    "gradient_accumulation_steps": 2,
    "alpha": 0.3,
    "plain_epochs": 3,
    "warmup": 10,
}


def get_dataloaders(batch_size):
    x_train, y_train = draw_digits(960, seed=20)
    x_val, y_val = draw_digits(200, seed=21)
    x_test, y_test = draw_digits(300, seed=22)
    mean, std = (x_train / 255.0).mean(), (x_train / 255.0).std()

    def dataset(x, y):
        return TensorDataset((x / 255.0 - mean) / std, y)

    train = DataLoader(dataset(x_train, y_train), batch_size=batch_size, shuffle=True, drop_last=True)
    return train, DataLoader(dataset(x_val, y_val), batch_size=100), DataLoader(dataset(x_test, y_test), batch_size=100)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        # each block begins as the identity
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x):
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(h)))


class DigitNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.stage1 = Residual(16)
        self.down = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.stage2 = Residual(32)
        self.head = nn.Linear(32 * 16, 10)

    def forward(self, x):
        x = self.stage2(self.down(self.stage1(self.stem(x))))
        return self.head(F.max_pool2d(x, 2).flatten(1))


def blend(x, y, alpha):
    share = float(np.random.beta(alpha, alpha))
    other = torch.randperm(len(x))
    return share * x + (1 - share) * x[other], y, y[other], share


def evaluate(accelerator, model, loader):
    model.eval()
    right, seen = 0, 0
    for x, y in loader:
        with torch.no_grad():
            predictions = model(x).argmax(dim=-1)
        predictions, references = accelerator.gather_for_metrics((predictions, y))
        right += (predictions == references).sum().item()
        seen += references.shape[0]
    return right / seen


def training_function(config):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=config["gradient_accumulation_steps"])
    set_seed(config["seed"])
    train_loader, val_loader, test_loader = get_dataloaders(config["batch_size"])
    model = DigitNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.02)
    total = config["num_epochs"] * math.ceil(len(train_loader) / config["gradient_accumulation_steps"])

    def shape(step):
        if step < config["warmup"]:
            return (step + 1) / config["warmup"]
        return max(0.0, (total - step) / (total - config["warmup"]))

    model, optimizer, train_loader, val_loader, test_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, test_loader, LambdaLR(optimizer, shape)
    )

    for epoch in range(config["num_epochs"]):
        model.train()
        plain = epoch >= config["num_epochs"] - config["plain_epochs"]
        total_loss = 0.0
        for x, y in train_loader:
            with accelerator.accumulate(model):
                if plain:
                    loss = F.cross_entropy(model(x), y)
                else:
                    x, y_a, y_b, share = blend(x, y, config["alpha"])
                    logits = model(x)
                    loss = share * F.cross_entropy(logits, y_a) + (1 - share) * F.cross_entropy(logits, y_b)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total_loss += loss.detach().float()
        accuracy = evaluate(accelerator, model, val_loader)
        accelerator.print(f"epoch {epoch}: loss {total_loss / len(train_loader):.4f}, accuracy {accuracy:.4f}")

    accelerator.print(f"test accuracy {evaluate(accelerator, model, test_loader):.4f}")


if __name__ == "__main__":
    training_function(config)
