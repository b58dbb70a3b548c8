"""Which shapes are in the picture? Multi-label training with BCE, thresholds of each class, mean average precision."""
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import COLORS, shape_mask


@dataclass
class Config:
    images: int = 1800
    size: int = 24
    batch_size: int = 32
    epochs: int = 15
    lr: float = 6e-3
    dropout: float = 0.2
    seed: int = 8
    valid: float = 0.2
    test: float = 0.2


FREQUENCIES = {"red square": 0.5, "red disc": 0.4, "blue square": 0.3, "red cross": 0.2, "blue disc": 0.15, "blue cross": 0.08}


def draw_scenes(count, size, seed):
    """Pictures with some of six shapes, one in each quarter at most, and the list of their names."""
    g = torch.Generator().manual_seed(seed)
    half = size // 2
    images, annotations = torch.full((count, 3, size, size), 0.5), []
    for i in range(count):
        present = [name for name, p in FREQUENCIES.items() if torch.rand((), generator=g) < p][:4]
        quarters = torch.randperm(4, generator=g).tolist()
        for name, quarter in zip(present, quarters):
            color, kind = name.split()
            width = int(torch.randint(7, 11, (1,), generator=g))
            top = (quarter // 2) * half + int(torch.randint(0, half - width + 1, (1,), generator=g))
            left = (quarter % 2) * half + int(torch.randint(0, half - width + 1, (1,), generator=g))
            images[i][:, shape_mask(kind, size, top, left, width)] = torch.tensor(COLORS[color])[:, None]
        annotations.append(present)
    images = (images + 0.14 * torch.randn(images.shape, generator=g)).clamp(0, 1)
    return images, annotations


class LabelBinarizer:
    """Lists of names -> rows of zeros and ones; columns in order of first appearance."""

    def fit(self, annotations):
        self.classes = list(dict.fromkeys(name for names in annotations for name in names))
        return self

    def transform(self, annotations):
        rows = torch.zeros(len(annotations), len(self.classes))
        for row, names in zip(rows, annotations):
            for name in names:
                row[self.classes.index(name)] = 1
        return rows

    def fit_transform(self, annotations):
        return self.fit(annotations).transform(annotations)


class Scenes(Dataset):
    def __init__(self, images, targets, augment=False):
        self.images, self.targets, self.augment = images, targets, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        x = self.images[i]
        if self.augment and torch.rand(()) < 0.5:
            x = x.flip(-1)
        return (x - 0.5) / 0.25, self.targets[i]


class Net(nn.Module):
    def __init__(self, classes, dropout):
        super().__init__()
        self.dropout = dropout
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 48, 3, padding=1)
        self.fc = nn.Linear(48, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.conv3(x)).amax(dim=(2, 3))
        x = F.dropout(x, p=self.dropout, training=self.training)
        return self.fc(x)


def average_precision(scores, truth):
    """Area under precision and recall of one class."""
    if truth.sum() == 0:
        return float("nan")
    ranked = truth[scores.argsort(descending=True)]
    precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
    return (precision * ranked).sum().item() / ranked.sum().item()


def mean_average_precision(scores, truth):
    values = torch.tensor([average_precision(scores[:, c], truth[:, c]) for c in range(truth.shape[1])])
    return values.nanmean().item(), values


def best_thresholds(scores, truth, grid=torch.linspace(0.05, 0.95, 19)):
    f1 = torch.stack([f1_scores(scores > t, truth) for t in grid])
    return grid[f1.argmax(dim=0)]


def f1_scores(predicted, truth):
    tp = (predicted * truth).sum(0)
    return 2 * tp / (predicted.float().sum(0) + truth.sum(0)).clamp(min=1)


class Trainer:
    def __init__(self, cfg):
        self.cfg = cfg
        torch.manual_seed(cfg.seed)
        images, annotations = draw_scenes(cfg.images, cfg.size, cfg.seed)
        order = torch.randperm(len(images)).tolist()
        n_valid, n_test = int(cfg.valid * len(order)), int(cfg.test * len(order))
        parts = order[n_valid + n_test :], order[:n_valid], order[n_valid : n_valid + n_test]
        self.binarizer = LabelBinarizer()
        train_rows = self.binarizer.fit_transform([annotations[i] for i in parts[0]])
        valid_rows = self.binarizer.transform([annotations[i] for i in parts[1]])
        test_rows = self.binarizer.transform([annotations[i] for i in parts[2]])
        self.classes = list(self.binarizer.classes)
        self.train_loader = DataLoader(Scenes(images[parts[0]], train_rows, True), cfg.batch_size, shuffle=True)
        self.valid_loader = DataLoader(Scenes(images[parts[1]], valid_rows), 60)
        self.test_loader = DataLoader(Scenes(images[parts[2]], test_rows), 60)
        self.net = Net(len(self.classes), cfg.dropout)
        positive = train_rows.sum(0)
        negative = len(train_rows) - positive
        self.criterion = nn.BCEWithLogitsLoss(pos_weight=negative / positive)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=cfg.lr)
        steps = cfg.epochs * len(self.train_loader)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, max_lr=cfg.lr, total_steps=steps)
        self.folder = Path(tempfile.mkdtemp(prefix="multilabel_"))

    def train_epoch(self):
        self.net.train()
        total = 0.0
        for x, y in self.train_loader:
            loss = self.criterion(self.net(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item() * len(x)
        return total / len(self.train_loader.dataset)

    @torch.no_grad()
    def predict(self, loader):
        self.net.eval()
        scores, truth = [], []
        for x, y in loader:
            scores.append(torch.sigmoid(self.net(x)))
            truth.append(y)
        return torch.cat(scores), torch.cat(truth)

    def fit(self):
        best = 0.0
        for epoch in range(1, self.cfg.epochs + 1):
            loss = self.train_epoch()
            score, _ = mean_average_precision(*self.predict(self.valid_loader))
            print(f"[{epoch:02d}] loss {loss:.4f}  valid mAP {score:.4f}")
            if score > best:
                best = score
                torch.save(self.net.state_dict(), self.folder / "best.pth")
        self.net.load_state_dict(torch.load(self.folder / "best.pth"))
        thresholds = best_thresholds(*self.predict(self.valid_loader))
        scores, truth = self.predict(self.test_loader)
        score, per_class = mean_average_precision(scores, truth)
        f1 = f1_scores(scores > thresholds, truth)
        for name, t, ap, f in zip(self.classes, thresholds, per_class, f1):
            print(f"  {name:12s} threshold {t:.2f}  AP {ap:.3f}  F1 {f:.3f}")
        print(f"best valid mAP {best:.4f}; test mAP {score:.4f}, macro F1 {f1.mean():.4f}")


if __name__ == "__main__":
    Trainer(Config()).fit()
