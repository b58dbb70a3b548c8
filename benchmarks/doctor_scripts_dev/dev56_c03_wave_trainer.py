"""Sound classification with a one-dimensional residual network and a Trainer class."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(1, self.count)


class ResBlock(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(cin, cout, 7, stride, 3, bias=False),
            nn.GroupNorm(4, cout),
            nn.ReLU(),
            nn.Conv1d(cout, cout, 7, 1, 3, bias=False),
            nn.GroupNorm(4, cout),
        )
        self.skip = nn.Conv1d(cin, cout, 1, stride)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.body(x) + self.skip(x))


class WaveNet1d(nn.Module):
    def __init__(self, classes=4, width=16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, width, 9, padding=4), nn.ReLU())
        self.blocks = nn.Sequential(ResBlock(width, width, 2), ResBlock(width, 2 * width, 2))
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean(-1))


class Trainer:
    def __init__(self, cfg, model, train_loader, val_loader):
        self.cfg, self.model = cfg, model
        self.train_loader, self.val_loader = train_loader, val_loader
        self.criterion = nn.CrossEntropyLoss(label_smoothing=cfg.smoothing)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=1e-2)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=cfg.lr, epochs=cfg.epochs, steps_per_epoch=len(train_loader)
        )

    def training_step(self, signal, label):
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(signal), label)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return loss.detach()

    def augment(self, signal):
        gain = torch.empty(len(signal), 1, 1).uniform_(0.8, 1.2)
        return signal * gain

    def train_epoch(self):
        self.model.train()
        meter = AverageMeter()
        for signal, label in self.train_loader:
            loss = self.training_step(self.augment(signal), label)
            meter.update(loss.item(), len(label))
        return meter.avg

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        accuracy = AverageMeter()
        for signal, label in self.val_loader:
            hits = (self.model(signal).argmax(1) == label).float().mean()
            accuracy.update(hits.item(), len(label))
        return accuracy.avg

    def fit(self):
        best = 0.0
        for epoch in range(self.cfg.epochs):
            loss = self.train_epoch()
            accuracy = self.validate()
            best = max(best, accuracy)
            rate = self.scheduler.get_last_lr()[0]
            print(f"[{epoch + 1:2d}/{self.cfg.epochs}] loss {loss:.3f}  acc {accuracy:.3f}  best {best:.3f}  lr {rate:.5f}")


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--smoothing", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=3)
    return parser.parse_args()


def main():
    cfg = parse()
    torch.manual_seed(cfg.seed)
    train_set = TensorDataset(*waves(800, seed=cfg.seed))
    val_set = TensorDataset(*waves(240, seed=cfg.seed + 1))
    train_loader = DataLoader(train_set, cfg.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, 64)
    Trainer(cfg, WaveNet1d(), train_loader, val_loader).fit()


if __name__ == "__main__":
    main()
