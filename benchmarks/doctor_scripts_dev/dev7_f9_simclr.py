"""SimCLR on digits: two augmented views, NT-Xent, then a linear probe on the frozen encoder."""
import argparse
import math
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader, Dataset


class ContrastiveTransformations:
    """n_views random views of an image: small shift + zoom + rotation, contrast, noise."""

    def __init__(self, n_views=2, zoom=(0.85, 1.15), angle=0.3, shift=0.12, noise=0.15):
        self.n_views, self.zoom, self.angle, self.shift, self.noise = n_views, zoom, angle, shift, noise

    def view(self, img):
        a, s = random.uniform(-self.angle, self.angle), random.uniform(*self.zoom)
        dx, dy = random.uniform(-self.shift, self.shift), random.uniform(-self.shift, self.shift)
        theta = torch.tensor([[s * math.cos(a), -s * math.sin(a), dx], [s * math.sin(a), s * math.cos(a), dy]])
        grid = F.affine_grid(theta[None], (1, 1, 16, 16), align_corners=False)
        out = F.grid_sample(img[None], grid, align_corners=False, padding_mode='border')[0]
        return out * random.uniform(0.7, 1.3) + self.noise * torch.randn_like(out)

    def __call__(self, img):
        return [self.view(img) for _ in range(self.n_views)]


class DigitPictures(Dataset):
    def __init__(self, images, labels, transform=None):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        img = self.images[i]
        return (self.transform(img) if self.transform else img), self.labels[i]


def load_images():
    raw = load_digits()
    images = torch.from_numpy(raw.images).float()[:, None] / 16
    images = F.interpolate(images, size=16, mode='bilinear', align_corners=False)
    labels = torch.from_numpy(raw.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    mean, std = images[:1300].mean(), images[:1300].std()
    return (images - mean) / std, labels


class Encoder(nn.Module):
    def __init__(self, width=24, dim=64):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, dim, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(dim), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * dim, dim))

    def forward(self, x):
        return self.features(x)


class SimCLR(nn.Module):
    def __init__(self, dim=64, proj_dim=32):
        super().__init__()
        self.encoder = Encoder(dim=dim)
        self.projector = nn.Sequential(nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, proj_dim))

    def forward(self, x):
        h = self.encoder(x)
        z = self.projector(h)
        return F.normalize(z, dim=1)


def info_nce_loss(z, temperature):
    """z holds the first views of the batch, then the second ones: the mate of i is i + N."""
    sim = z @ z.t() / temperature
    n = len(z) // 2
    sim = sim.masked_fill(torch.eye(2 * n, dtype=torch.bool), -9e15)  # not with itself
    target = torch.arange(2 * n).roll(n)
    loss = F.cross_entropy(sim, target)
    top1 = (sim.argmax(dim=1) == target).float().mean()
    return loss, top1


@torch.no_grad()
def embed(model, dataset):
    model.eval()
    feats = [model.encoder(x) for x, _ in DataLoader(dataset, batch_size=200)]
    return torch.cat(feats).numpy(), dataset.labels.numpy()


def linear_probe(model, few, test):
    """Logistic regression on the features of 100 labelled images."""
    (xa, ya), (xb, yb) = embed(model, few), embed(model, test)
    mean, std = xa.mean(0), xa.std(0) + 1e-6
    probe = LogisticRegression(max_iter=300).fit((xa - mean) / std, ya)
    return probe.score((xb - mean) / std, yb)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--epochs', type=int, default=12)
    parser.add_argument('--batch-size', type=int, default=128)
    parser.add_argument('--lr', type=float, default=2e-3)
    parser.add_argument('--weight-decay', type=float, default=1e-4)
    parser.add_argument('--temperature', type=float, default=0.2)
    args = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)

    images, labels = load_images()
    train_set = DigitPictures(images[:1300], labels[:1300], ContrastiveTransformations())
    few, test = DigitPictures(images[:100], labels[:100]), DigitPictures(images[1300:], labels[1300:])
    loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)

    model = SimCLR()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs * len(loader), eta_min=args.lr / 50)
    print(f'untrained: linear probe {linear_probe(model, few, test):.4f}')

    for epoch in range(args.epochs):
        model.train()
        total, hits = 0.0, 0.0
        for views, _ in loader:
            x = torch.cat(views, dim=0)
            z = model(x)
            loss, top1 = info_nce_loss(z, args.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total, hits = total + loss.item(), hits + top1.item()
        line = f'epoch {epoch:2d}  NT-Xent {total / len(loader):.4f}  top1 of pairs {hits / len(loader):.4f}'
        if epoch % 3 == 2 or epoch + 1 == args.epochs:
            line += f'  linear probe {linear_probe(model, few, test):.4f}'
        print(line)


if __name__ == '__main__':
    main()
