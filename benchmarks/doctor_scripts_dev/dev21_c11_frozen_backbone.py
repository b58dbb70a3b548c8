"""Transfer: a network learns digits, then its frozen features tell odd from even with few labels."""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


@dataclass
class Stage:
    name: str
    epochs: int
    lr: float
    batch_size: int


PRETRAIN = Stage("pretraining", epochs=10, lr=2e-3, batch_size=64)
TRANSFER = Stage("transfer", epochs=25, lr=5e-3, batch_size=32)


class Backbone(nn.Module):
    def __init__(self, out_features=96):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, out_features),
            nn.ReLU(),
        )
        self.out_features = out_features

    def forward(self, x):
        return self.net(x)


class DigitClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(self.backbone.out_features, 10)

    def forward(self, x):
        return self.head(self.backbone(x))


class ParityClassifier(nn.Module):
    """Only the head learns; the backbone, with its batch norm, stays as it was trained."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        for parameter in self.backbone.parameters():
            parameter.requires_grad = False
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(backbone.out_features, 1))
        self.train()

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x):
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features).squeeze(1)


def digit_loss(outputs, labels):
    return F.cross_entropy(outputs, labels)


def digit_hits(outputs, labels):
    return outputs.argmax(1) == labels


def parity_loss(outputs, labels):
    return F.binary_cross_entropy_with_logits(outputs, labels)


def parity_hits(outputs, labels):
    return (outputs > 0) == (labels > 0.5)  # logits: zero is a probability of one half


def run(stage, model, train_set, val_set, loss_fn, hit_fn):
    train_loader = DataLoader(train_set, stage.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, 100)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=stage.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, stage.epochs)
    for epoch in range(1, stage.epochs + 1):
        model.train()
        losses = 0.0
        for x, y in train_loader:
            loss = loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.item() * len(x)
        scheduler.step()
        model.eval()
        with torch.no_grad():
            hits = torch.cat([hit_fn(model(x), y) for x, y in val_loader])
        print(f"{stage.name} {epoch}: loss {losses / len(train_set):.4f}, accuracy {hits.float().mean():.4f}")


def main():
    torch.manual_seed(0)
    images, labels = draw_digits(4500, seed=0)
    train, val = torch.randperm(4500, generator=torch.Generator().manual_seed(0)).split([4000, 500])
    mean, std = (images[train] / 255).mean(), (images[train] / 255).std()
    inputs = (images / 255 - mean) / std
    train_set, val_set = TensorDataset(inputs[train], labels[train]), TensorDataset(inputs[val], labels[val])
    model = DigitClassifier()
    run(PRETRAIN, model, train_set, val_set, digit_loss, digit_hits)

    def parity_set(count, seed):
        images, labels = draw_digits(count, seed=seed)
        return TensorDataset((images / 255 - mean) / std, (labels % 2).float())

    classifier = ParityClassifier(model.backbone)
    run(TRANSFER, classifier, parity_set(600, seed=2), parity_set(400, seed=3), parity_loss, parity_hits)


if __name__ == "__main__":
    main()
