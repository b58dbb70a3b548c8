"""Orientation of noisy gratings: a Trainer with checkpoints and early stopping."""

import math
import os
import tempfile
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split


@dataclass
class Config:
    seed: int = 1
    num_classes: int = 6
    image_size: int = 24
    crop_size: int = 20
    batch_size: int = 32
    lr: float = 2e-3
    epochs: int = 40
    patience: int = 8


def make_gratings(count, size, num_classes, seed):
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high):
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    labels = torch.randint(0, num_classes, (count,), generator=generator)
    angle = math.pi * (labels.view(-1, 1, 1) + uniform(-0.25, 0.25)) / num_classes
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    wave = torch.sin(uniform(0.9, 1.4) * (x * angle.cos() + y * angle.sin()) + uniform(0, 2 * math.pi))
    images = uniform(0.4, 1.0) * wave + 1.4 * torch.randn(count, size, size, generator=generator)
    return images.unsqueeze(1), labels


class CroppedSet(Dataset):
    """Random crops, half of them turned by 180 degrees, for training; center crops otherwise."""

    def __init__(self, base, crop, train):
        self.base, self.crop, self.train = base, crop, train

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, label = self.base[index]
        room = image.shape[-1] - self.crop
        top = left = room // 2
        if self.train:
            top, left = torch.randint(0, room + 1, (2,)).tolist()
        image = image[:, top:top + self.crop, left:left + self.crop]
        if self.train and torch.rand(()) < 0.5:
            image = image.flip(1, 2)
        return image, label


def build_model(config):
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2, bias=False),
        nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 48, 3, padding=1, bias=False),
        nn.BatchNorm2d(48), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(192, config.num_classes),
    )


class EarlyStopping:
    def __init__(self, patience, mode="min"):
        self.patience, self.mode = patience, mode
        self.best = math.inf if mode == "min" else -math.inf
        self.bad_epochs = 0

    def step(self, value):
        improved = value < self.best if self.mode == "min" else value > self.best
        if improved:
            self.best, self.bad_epochs = value, 0
        else:
            self.bad_epochs += 1
        return improved

    @property
    def should_stop(self):
        return self.bad_epochs >= self.patience


class Trainer:
    def __init__(self, model, optimizer, criterion, config, folder):
        self.model = model
        self.optimizer = optimizer
        self.criterion = criterion
        self.config = config
        self.stopper = EarlyStopping(config.patience, mode="min")
        self.checkpoint = os.path.join(folder, "best.pt")

    def train_epoch(self, loader):
        self.model.train()
        total_loss, seen = 0.0, 0
        for images, labels in loader:
            loss = self.criterion(self.model(images), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total_loss += loss.item() * len(labels)
            seen += len(labels)
        return total_loss / seen

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        total_loss, correct, seen = 0.0, 0, 0
        for images, labels in loader:
            logits = self.model(images)
            total_loss += self.criterion(logits, labels).item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()
            seen += len(labels)
        return total_loss / seen, correct / seen

    def fit(self, train_loader, val_loader):
        for epoch in range(self.config.epochs):
            train_loss = self.train_epoch(train_loader)
            val_loss, val_acc = self.evaluate(val_loader)
            print(f"epoch {epoch:2d}  train {train_loss:.4f}  val {val_loss:.4f}  acc {val_acc:.3f}")
            if self.stopper.step(val_loss):
                torch.save(self.model.state_dict(), self.checkpoint)
            if self.stopper.should_stop:
                print("early stopping")
                break
        self.model.load_state_dict(torch.load(self.checkpoint))


def main():
    config = Config()
    torch.manual_seed(config.seed)
    full = TensorDataset(*make_gratings(800, config.image_size, config.num_classes, seed=config.seed))
    test_base = TensorDataset(*make_gratings(400, config.image_size, config.num_classes, seed=config.seed + 1))
    train_part, val_part = random_split(full, [640, 160])
    train_set = CroppedSet(train_part, config.crop_size, train=True)
    val_set = CroppedSet(val_part, config.crop_size, train=False)
    test_set = CroppedSet(test_base, config.crop_size, train=False)

    train_loader = DataLoader(train_set, batch_size=config.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100)
    test_loader = DataLoader(test_set, batch_size=100)

    model = build_model(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, optimizer, nn.CrossEntropyLoss(), config, folder)
        trainer.fit(train_loader, val_loader)
    test_loss, test_acc = trainer.evaluate(test_loader)
    print(f"test loss {test_loss:.4f}  acc {test_acc:.3f}")


if __name__ == "__main__":
    main()
