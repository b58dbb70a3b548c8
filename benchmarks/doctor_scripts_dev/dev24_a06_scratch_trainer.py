"""Does a metal surface have a scratch? My first own project: photos in two folders, ok/ and scratch/."""

import math
import os
import tempfile
from dataclasses import dataclass, field

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset


@dataclass
class Config:
    epochs: int = 18
    batch_size: int = 32
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    milestones: tuple = (10, 15)
    pos_weight: float = 2.0  # there are twice as many good surfaces as scratched ones
    seed: int = 3
    folder: str = field(default_factory=tempfile.mkdtemp)


def photograph(count, scratched, seed, size=24):
    """The photos of one folder: uneven light, noise, some dust, and a scratch or none."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high):
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    light = 0.6 + uniform(-0.1, 0.1) * (x / size - 0.5) + uniform(-0.1, 0.1) * (y / size - 0.5)
    photos = light + 0.05 * torch.randn(count, size, size, generator=generator)
    dust = torch.rand(count, size, size, generator=generator) < 0.01
    photos = photos - 0.35 * dust
    if scratched:
        angle = uniform(0, math.pi)
        dx, dy = x - uniform(7, size - 8), y - uniform(7, size - 8)
        along = dx * torch.cos(angle) + dy * torch.sin(angle)
        across = dx * torch.sin(angle) - dy * torch.cos(angle)
        scratch = (along.abs() < uniform(5, 8)) & (across.abs() < 0.8)
        photos = photos - 0.3 * scratch
    return photos.clamp(0, 1).unsqueeze(1)


class FolderDataset(Dataset):
    """Like ImageFolder: first all photos of ok/ (label 0), then all of scratch/ (label 1)."""

    def __init__(self, ok, scratch, augment=False):
        self.photos = torch.cat([ok, scratch])
        self.labels = torch.cat([torch.zeros(len(ok)), torch.ones(len(scratch))])
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        photo = (self.photos[i] - 0.6) / 0.1
        if self.augment:
            if torch.rand(()) < 0.5:
                photo = photo.flip(2)
            if torch.rand(()) < 0.5:
                photo = photo.flip(1)
        return photo, self.labels[i]


class ScratchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            self.block(1, 16),
            nn.MaxPool2d(2),
            self.block(16, 32),
            nn.MaxPool2d(2),
            self.block(32, 64),
            nn.AdaptiveMaxPool2d(1),
        )
        self.classifier = nn.Linear(64, 1)

    @staticmethod
    def block(inputs, outputs):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Trainer:
    def __init__(self, model, config):
        self.model = model
        self.config = config
        self.criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([config.pos_weight]))
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, list(config.milestones), gamma=0.1)
        self.best_f1 = -1.0
        self.path = os.path.join(config.folder, "best.pt")

    def train_epoch(self, loader):
        self.model.train()
        total, count = 0.0, 0
        for photos, labels in loader:
            self.optimizer.zero_grad()
            logits = self.model(photos)
            loss = self.criterion(logits, labels.unsqueeze(1))
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(labels)
            count += len(labels)
        self.scheduler.step()
        return total / count

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        right = true_pos = predicted_pos = actual_pos = count = 0
        for photos, labels in loader:
            logits = self.model(photos)
            preds = (torch.sigmoid(logits) > 0.5).long().squeeze(1)
            labels = labels.long()
            right += (preds == labels).sum().item()
            true_pos += (preds * labels).sum().item()
            predicted_pos += preds.sum().item()
            actual_pos += labels.sum().item()
            count += len(labels)
        precision = true_pos / max(predicted_pos, 1)
        recall = true_pos / max(actual_pos, 1)
        f1 = 2 * precision * recall / max(precision + recall, 1e-8)
        return {"accuracy": right / count, "precision": precision, "recall": recall, "f1": f1}

    def save(self, epoch):
        torch.save({"epoch": epoch, "model": self.model.state_dict()}, self.path)

    def fit(self, train_loader, val_loader):
        for epoch in range(1, self.config.epochs + 1):
            loss = self.train_epoch(train_loader)
            scores = self.evaluate(val_loader)
            print(f"epoch {epoch:2d} loss {loss:.4f} " + " ".join(f"{k} {v:.3f}" for k, v in scores.items()))
            if scores["f1"] > self.best_f1:
                self.best_f1 = scores["f1"]
                self.save(epoch)


def split(photos):
    """70 % for training, 15 % for validation, 15 % for the final test."""
    a, b = int(0.7 * len(photos)), int(0.85 * len(photos))
    return photos[:a], photos[a:b], photos[b:]


if __name__ == "__main__":
    config = Config()
    torch.manual_seed(config.seed)
    ok = split(photograph(1300, scratched=False, seed=20))
    scratch = split(photograph(650, scratched=True, seed=21))
    train_set = FolderDataset(ok[0], scratch[0], augment=True)
    train_loader = DataLoader(train_set, batch_size=config.batch_size, shuffle=True)
    val_loader = DataLoader(FolderDataset(ok[1], scratch[1]), batch_size=100)
    test_loader = DataLoader(FolderDataset(ok[2], scratch[2]), batch_size=100)

    trainer = Trainer(ScratchNet(), config)
    trainer.fit(train_loader, val_loader)

    # the best model, read again, on photos never seen
    checkpoint = torch.load(trainer.path)
    model = ScratchNet()
    model.load_state_dict(checkpoint["model"])
    scores = Trainer(model, config).evaluate(test_loader)
    print(f"test (model of epoch {checkpoint['epoch']}): " + " ".join(f"{k} {v:.3f}" for k, v in scores.items()))
