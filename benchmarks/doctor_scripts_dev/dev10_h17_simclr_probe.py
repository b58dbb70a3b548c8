"""Contrastive pretraining without labels, two views per picture; then a linear classifier on the frozen features."""
import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn, optim

from toydata import draw_digits


def view(images):
    """Moved by up to two pixels, brighter or darker, noisy: which digit it is stays."""
    n, _, size, _ = images.shape
    padded = F.pad(images, (2, 2, 2, 2))
    top, left = torch.randint(0, 5, (2, n))
    rows = (top[:, None] + torch.arange(size))[:, :, None]
    columns = (left[:, None] + torch.arange(size))[:, None, :]
    out = padded.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], rows, columns].permute(0, 3, 1, 2)
    out = out * (0.7 + 0.6 * torch.rand(n, 1, 1, 1))
    return out + 0.1 * torch.randn_like(out)


class Encoder(nn.Module):
    def __init__(self, width=32, features=96):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, features, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(features), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x):
        return self.net(x)


class SimCLR(nn.Module):
    def __init__(self, features=96, projection=48):
        super().__init__()
        self.encoder = Encoder(features=features)
        self.projector = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, projection))

    def forward(self, x):
        return self.projector(self.encoder(x))


def nt_xent(a, b, temperature):
    z = F.normalize(torch.cat([a, b]), dim=1)
    n = len(a)
    similarity = z @ z.T / temperature
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(similarity, partner)


def pretrain(args, images, normalize):
    model = SimCLR()
    optimizer = optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    total, step = args.epochs * (len(images) // args.batch_size), 0
    for epoch in range(args.epochs):
        model.train()
        losses = []
        for index in torch.randperm(len(images)).split(args.batch_size):
            if len(index) < args.batch_size:
                continue
            for group in optimizer.param_groups:
                group["lr"] = args.lr * min(1, (step + 1) / 15) * 0.5 * (1 + math.cos(math.pi * step / total))
            batch = images[index]
            loss = nt_xent(model(normalize(view(batch))), model(normalize(view(batch))), args.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            step += 1
        print(f"pretrain {epoch:2d} loss {torch.stack(losses).mean():.4f}")
    return model.encoder


def linear_probe(encoder, train, val, normalize):
    encoder.eval()
    with torch.no_grad():
        x, vx = (torch.cat([encoder(normalize(c)) for c in images.split(300)]) for images, _ in (train, val))
    center, scale = x.mean(0), x.std(0) + 1e-5
    x, vx = (x - center) / scale, (vx - center) / scale
    probe = nn.Linear(x.shape[1], 10)
    optimizer = optim.SGD(probe.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for epoch in range(20):
        for index in torch.randperm(len(x)).split(100):
            loss = F.cross_entropy(probe(x[index]), train[1][index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return [(probe(f).argmax(1) == y).float().mean().item() for f, y in ((x, train[1]), (vx, val[1]))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--temperature", type=float, default=0.2)
    args = parser.parse_args()
    torch.manual_seed(0)
    train, val = [(x.float() / 255, y) for x, y in (draw_digits(1600, seed=0), draw_digits(400, seed=1))]
    mean, std = train[0].mean(), train[0].std()
    normalize = lambda images: (images - mean) / std
    encoder = pretrain(args, train[0], normalize)
    accuracy = linear_probe(encoder, train, val, normalize)
    print(f"linear probe: train {accuracy[0]:.4f} val {accuracy[1]:.4f}")
