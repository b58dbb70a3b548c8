"""Gradient accumulation, bfloat16 autocast and channels-last on the CPU, with a configuration in a dataclass."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes


@dataclass
class Config:
    micro_batch: int = 32
    accumulate: int = 4  # effective batch of 128
    epochs: int = 24
    max_lr: float = 4e-3
    weight_decay: float = 1e-2
    max_norm: float = 2.0
    train_images: int = 2048  # a multiple of micro_batch * accumulate
    valid_images: int = 360
    seed: int = 11


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return x * self.gate(self.pool(x))


def stage(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        SqueezeExcite(outputs),
        nn.MaxPool2d(2),
    )


class Net(nn.Module):
    def __init__(self, classes=6):
        super().__init__()
        self.features = nn.Sequential(stage(3, 32), stage(32, 48), stage(48, 64))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64 * 2 * 2, classes))

    def forward(self, x):
        return self.head(self.features(x))


def load(train, count):
    shapes = Shapes(train=train, count=count)
    return torch.stack(shapes.images), torch.tensor(shapes.targets)


class Trainer:
    def __init__(self, config):
        self.config = config
        torch.manual_seed(config.seed)
        x_train, y_train = load(True, config.train_images)
        x_valid, y_valid = load(False, config.valid_images)
        mean, std = x_train.mean(dim=(0, 2, 3), keepdim=True), x_train.std(dim=(0, 2, 3), keepdim=True)
        self.train_loader = DataLoader(
            TensorDataset((x_train - mean) / std, y_train), batch_size=config.micro_batch, shuffle=True, drop_last=True
        )
        self.valid_loader = DataLoader(TensorDataset((x_valid - mean) / std, y_valid), batch_size=120)
        assert len(self.train_loader) % config.accumulate == 0

        self.model = Net().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.max_lr, weight_decay=config.weight_decay)
        updates = config.epochs * len(self.train_loader) // config.accumulate
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=config.max_lr, total_steps=updates, pct_start=0.25
        )
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, images):
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = self.model(images)
        return outputs.float()

    def train_epoch(self):
        self.model.train()
        total, count = 0.0, 0
        self.optimizer.zero_grad(set_to_none=True)
        for index, (images, targets) in enumerate(self.train_loader, start=1):
            loss = self.criterion(self.forward(images), targets)
            (loss / self.config.accumulate).backward()
            total += loss.detach() * len(targets)
            count += len(targets)
            if index % self.config.accumulate == 0:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_norm)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad(set_to_none=True)
        return float(total) / count

    @torch.inference_mode()
    def validate(self):
        self.model.eval()
        loss, right, count = 0.0, 0, 0
        for images, targets in self.valid_loader:
            outputs = self.forward(images)
            loss += nn.functional.cross_entropy(outputs, targets, reduction="sum").item()
            right += (outputs.argmax(dim=1) == targets).sum().item()
            count += targets.numel()
        return loss / count, right / count

    def run(self):
        for epoch in range(self.config.epochs):
            train_loss = self.train_epoch()
            valid_loss, accuracy = self.validate()
            rate = self.scheduler.get_last_lr()[0]
            print(
                f"epoch {epoch:2d} lr {rate:.5f} train {train_loss:.4f} valid {valid_loss:.4f} accuracy {accuracy:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    Trainer(Config()).run()
