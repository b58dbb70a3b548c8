"""Ordinal regression (CORAL): grades 0 to 4 by how much of an image is covered, scored by quadratic kappa."""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import cohen_kappa_score, mean_absolute_error
from torch.utils.data import DataLoader, TensorDataset

GRADES = 5


@dataclass
class Args:
    epochs: int = 15
    batch_size: int = 32
    lr: float = 1e-3
    seed: int = 5


def make_lesions(count, size=20, seed=0):
    g = torch.Generator().manual_seed(seed)
    axis = torch.arange(size).float()
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grades = torch.randint(0, GRADES, (count,), generator=g)
    images = torch.zeros(count, 1, size, size)
    for i, grade in enumerate(grades.tolist()):
        picture = torch.zeros(size, size)
        for _ in range(2 * grade):
            cy, cx = (3 + (size - 6) * torch.rand(2, generator=g)).tolist()
            picture = torch.maximum(picture, torch.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 2.0))
        tone = 0.3 + 0.2 * torch.rand((), generator=g)
        images[i, 0] = tone + 0.4 * picture
    return images + 0.06 * torch.randn(images.shape, generator=g), grades


class CoralHead(nn.Module):
    """One score for all, and a bias for each limit between grades."""

    def __init__(self, features, grades):
        super().__init__()
        self.score = nn.Linear(features, 1, bias=False)
        self.bias = nn.Parameter(torch.linspace(1.0, -1.0, grades - 1))

    def forward(self, x):
        return self.score(x) + self.bias


class GradeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )
        self.hidden = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.head = CoralHead(32, GRADES)

    def forward(self, x):
        return self.head(self.hidden(self.features(x)))


def levels(grades):
    """Grade 3 of five becomes 1, 1, 1, 0."""
    return (grades[:, None] > torch.arange(GRADES - 1)).float()


def predict(logits):
    return (logits > 0).sum(dim=1)


def loop(model, loader, optimizer=None):
    model.train(optimizer is not None)
    losses, outputs, truths = [], [], []
    for images, grades in loader:
        with torch.set_grad_enabled(optimizer is not None):
            logits = model(images)
            loss = F.binary_cross_entropy_with_logits(logits, levels(grades), reduction="none").sum(1).mean()
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses += [loss.item()] * len(images)
        outputs += predict(logits).tolist()
        truths += grades.tolist()
    kappa = cohen_kappa_score(truths, outputs, weights="quadratic")
    return sum(losses) / len(losses), kappa, mean_absolute_error(truths, outputs)


def main(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    train_x, train_y = make_lesions(1800, seed=41)
    valid_x, valid_y = make_lesions(250, seed=42)
    mean, std = train_x.mean(), train_x.std()
    train = DataLoader(TensorDataset((train_x - mean) / std, train_y), args.batch_size, shuffle=True)
    valid = DataLoader(TensorDataset((valid_x - mean) / std, valid_y), 125)
    model = GradeNet()
    # The limits move slower than the features, so they get a rate of their own.
    optimizer = torch.optim.Adam(
        [
            {"params": [p for name, p in model.named_parameters() if name != "head.bias"]},
            {"params": [model.head.bias], "lr": 10 * args.lr},
        ],
        lr=args.lr,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.93**epoch)
    for epoch in range(args.epochs):
        loss, kappa, _ = loop(model, train, optimizer)
        val_loss, val_kappa, val_mae = loop(model, valid)
        schedule.step()
        print(f"{epoch:02d} loss {loss:.3f} kappa {kappa:.3f} | val loss {val_loss:.3f} kappa {val_kappa:.3f} MAE {val_mae:.3f}")


if __name__ == "__main__":
    main(Args())
