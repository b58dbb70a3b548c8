"""SimCLR on images of shapes without labels, then a linear probe on the frozen features."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class RandomShift:
    def __init__(self, pad=3):
        self.pad = pad

    def __call__(self, x):
        size = x.shape[-1]
        padded = F.pad(x[None], [self.pad] * 4, mode="replicate")[0]
        top, left = torch.randint(0, 2 * self.pad + 1, (2,)).tolist()
        return padded[:, top : top + size, left : left + size]


class RandomFlip:
    def __call__(self, x):
        if torch.rand(()) < 0.5:
            x = x.flip(-1)
        if torch.rand(()) < 0.5:
            x = x.flip(-2)
        return x


class BrightnessContrast:
    def __init__(self, strength=0.3):
        self.strength = strength

    def __call__(self, x):
        gain, offset = 1 + self.strength * (2 * torch.rand(2) - 1)
        return (x - 0.5) * gain + 0.5 * offset


class RandomGray:
    """Colors tell classes apart here, so this is off unless asked for."""

    def __init__(self, p=0.0):
        self.p = p

    def __call__(self, x):
        return x.mean(0, keepdim=True).expand_as(x) if torch.rand(()) < self.p else x


class Noise:
    def __call__(self, x):
        return x + 0.05 * torch.randn_like(x)


class Compose:
    def __init__(self, steps):
        self.steps = steps

    def __call__(self, x):
        for step in self.steps:
            x = step(x)
        return x


class TwoViews(Dataset):
    def __init__(self, base, transform):
        self.base, self.transform = base, transform

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, _ = self.base[index]
        return self.transform(image), self.transform(image)


class Encoder(nn.Module):
    def __init__(self, width=24, out_dim=64):
        super().__init__()

        def conv(i, o, s):
            return nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())

        self.net = nn.Sequential(conv(3, width, 1), conv(width, width * 2, 2), conv(width * 2, out_dim, 2), conv(out_dim, out_dim, 1))

    def forward(self, x):
        h = self.net(x)
        return torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)


class SimCLR(nn.Module):
    def __init__(self, feature_dim=128, proj_dim=32):
        super().__init__()
        self.encoder = Encoder()
        self.projector = nn.Sequential(nn.Linear(feature_dim, 64), nn.ReLU(), nn.Linear(64, proj_dim))

    def forward(self, x):
        return self.projector(self.encoder((x - 0.5) / 0.25))


def info_nce_loss(z1, z2, temperature):
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    n = len(z1)
    sim = z @ z.t() / temperature
    sim = sim.masked_fill(torch.eye(2 * n, dtype=torch.bool), -1e9)
    positives = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    top1 = (sim.argmax(1) == positives).float().mean().item()
    return F.cross_entropy(sim, positives), top1


@torch.no_grad()
def extract(model, dataset):
    model.eval()
    features, targets = [], []
    for images, labels in DataLoader(dataset, 100):
        features.append(model.encoder((images - 0.5) / 0.25))
        targets.append(labels)
    return torch.cat(features), torch.cat(targets)


def linear_probe(model, train_set, val_set, epochs=60):
    x_train, y_train = extract(model, train_set)
    x_val, y_val = extract(model, val_set)
    mean, std = x_train.mean(0), x_train.std(0) + 1e-5
    x_train, x_val = (x_train - mean) / std, (x_val - mean) / std
    probe = nn.Linear(x_train.shape[1], 6)
    optimizer = torch.optim.Adam(probe.parameters(), lr=1e-2, weight_decay=1e-4)
    for _ in range(epochs):
        for index in torch.randperm(len(x_train)).split(100):
            loss = F.cross_entropy(probe(x_train[index]), y_train[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return (probe(x_val).argmax(1) == y_val).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=75)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--probe-labels", type=int, default=600)
    args = parser.parse_args()
    torch.manual_seed(2)

    transform = Compose([RandomShift(), RandomFlip(), BrightnessContrast(), RandomGray(), Noise()])
    unlabeled = Shapes(train=True, count=1200)
    labeled = torch.utils.data.Subset(unlabeled, range(args.probe_labels))
    val_set = Shapes(train=False, count=300)
    loader = DataLoader(TwoViews(unlabeled, transform), args.batch_size, shuffle=True, drop_last=True)

    model = SimCLR()
    print(f"probe before pretraining: {linear_probe(model, labeled, val_set):.4f}")
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(loader))
    for epoch in range(args.epochs):
        model.train()
        total, hits = 0.0, 0.0
        for v1, v2 in loader:
            loss, top1 = info_nce_loss(model(v1), model(v2), args.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total, hits = total + loss.item(), hits + top1
        print(f"epoch {epoch} nce {total / len(loader):.4f} top1 {hits / len(loader):.4f}")
    print(f"linear probe accuracy: {linear_probe(model, labeled, val_set):.4f}")


if __name__ == "__main__":
    main()
