"""Colored shapes with a small residual network; a Trainer class, an exponential moving average, best checkpoint kept."""

import copy
import os
import tempfile

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes


class Residual(nn.Module):
    def __init__(self, inside, outside, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.skip = nn.Identity()
        if stride != 1 or inside != outside:
            self.skip = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return F.relu(out + self.skip(x))


class ShapeNet(nn.Module):
    def __init__(self, classes, width=24):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(Residual(width, width), Residual(width, 2 * width, 2), Residual(2 * width, 2 * width))
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))


class Average:
    """Weights that follow those in training; buffers are copied."""

    def __init__(self, model, decay=0.97):
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(self.module.parameters(), model.parameters()):
            mine.lerp_(theirs, 1 - decay)
        for mine, theirs in zip(self.module.buffers(), model.buffers()):
            mine.copy_(theirs)


class Trainer:
    def __init__(self, model, train_loader, val_loader, epochs, folder):
        self.model, self.average = model, Average(model)
        self.train_loader, self.val_loader = train_loader, val_loader
        self.epochs = epochs
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.08, momentum=0.9, nesterov=True, weight_decay=5e-4)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=epochs)
        self.path = os.path.join(folder, "best.pt")
        self.best = -1.0

    def normalize(self, images):
        return (images - 0.5) / 0.2

    def train_epoch(self):
        self.model.train()
        total, seen = torch.zeros(()), 0
        for images, targets in self.train_loader:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(self.normalize(images)), targets)
            loss.backward()
            self.optimizer.step()
            self.average.update(self.model)
            total += loss.detach() * len(targets)
            seen += len(targets)
        self.scheduler.step()
        return total.item() / seen

    @torch.no_grad()
    def validate(self):
        model = self.average.module
        right = seen = 0
        for images, targets in self.val_loader:
            predictions = model(self.normalize(images)).argmax(dim=1)
            right += int((predictions == targets).sum())
            seen += len(targets)
        return right / seen

    def fit(self):
        for epoch in range(self.epochs):
            loss, accuracy = self.train_epoch(), self.validate()
            if accuracy > self.best:
                self.best = accuracy
                torch.save({"model": self.average.module.state_dict(), "epoch": epoch}, self.path)
            print(f"[{epoch:02d}] loss={loss:.4f} ema_accuracy={accuracy:.4f} best={self.best:.4f}")
        state = torch.load(self.path, weights_only=True)
        self.average.module.load_state_dict(state["model"])
        print(f"kept epoch {state['epoch']}: accuracy {self.validate():.4f}")


def main():
    torch.manual_seed(7)
    train_loader = DataLoader(Shapes(train=True, count=2400), batch_size=64, shuffle=True, drop_last=True)
    val_loader = DataLoader(Shapes(train=False, count=480), batch_size=160)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(ShapeNet(len(NAMES)), train_loader, val_loader, epochs=8, folder=folder).fit()


if __name__ == "__main__":
    main()
