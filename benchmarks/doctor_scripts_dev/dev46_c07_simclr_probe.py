"""Contrastive pretraining without labels, then a linear probe on the frozen encoder."""
import dataclasses

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import NAMES, Shapes


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    pretrain_epochs: int = 18
    pretrain_batch: int = 100
    pretrain_lr: float = 2e-3
    temperature: float = 0.2
    probe_epochs: int = 25
    probe_batch: int = 50
    probe_lr: float = 1e-2


class Views:
    """Two random views of a batch: flips, small translations, contrast and noise. Hue tells the class and stays."""

    def __init__(self, pad=2, noise=0.05):
        self.pad, self.noise = pad, noise

    def one(self, x):
        n, _, h, w = x.shape
        flip = torch.rand(n, 1, 1, 1) < 0.5
        x = torch.where(flip, x.flip(-1), x)
        padded = F.pad(x, [self.pad] * 4, mode="replicate")
        top, left = torch.randint(0, 2 * self.pad + 1, (2, n))
        rows = top[:, None] + torch.arange(h)
        cols = left[:, None] + torch.arange(w)
        batch = torch.arange(n)[:, None, None]
        x = padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)
        x = x * (0.8 + 0.4 * torch.rand(n, 1, 1, 1))
        return x + self.noise * torch.randn_like(x)

    def __call__(self, x):
        return self.one(x), self.one(x)


class Encoder(nn.Module):
    def __init__(self, width=32, out=96):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
        )
        self.out = out

    def forward(self, x):
        return self.features(x).mean((2, 3))


def nt_xent(a, b, temperature):
    z = F.normalize(torch.cat([a, b]), dim=1)
    n = len(a)
    similarity = z @ z.t() / temperature
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(similarity, partner)


def pretrain(config, images):
    encoder = Encoder()
    projector = nn.Sequential(nn.Linear(encoder.out, 64), nn.ReLU(), nn.Linear(64, 32))
    params = list(encoder.parameters()) + list(projector.parameters())
    optimizer = torch.optim.AdamW(params, lr=config.pretrain_lr, weight_decay=1e-4)
    views = Views()
    for epoch in range(config.pretrain_epochs):
        losses = []
        order = torch.randperm(len(images))
        for index in order.split(config.pretrain_batch):
            first, second = views(images[index])
            both = projector(encoder(torch.cat([first, second])))
            loss = nt_xent(*both.chunk(2), config.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        if epoch % 3 == 2:
            print(f"pretrain {epoch + 1:2d}: contrastive loss {torch.stack(losses).mean():.3f}")
    return encoder


@torch.no_grad()
def accuracy(encoder, probe, images, labels):
    probe.eval()
    right = (probe(encoder(images)).argmax(1) == labels).float().mean().item()
    probe.train()
    return right


def linear_probe(config, encoder, train, test):
    encoder.eval().requires_grad_(False)
    head = nn.Linear(encoder.out, len(NAMES))
    probe = nn.Sequential(nn.BatchNorm1d(encoder.out, affine=False), head)
    optimizer = torch.optim.Adam(probe.parameters(), lr=config.probe_lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.probe_epochs)
    images, labels = train
    for epoch in range(config.probe_epochs):
        for index in torch.randperm(len(images)).split(config.probe_batch):
            with torch.no_grad():
                features = encoder(images[index])
            loss = F.cross_entropy(probe(features), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    print(f"probe: train accuracy {accuracy(encoder, probe, *train):.3f}, test {accuracy(encoder, probe, *test):.3f}")


def load(train):
    shapes = Shapes(train=train)
    return (torch.stack(shapes.images) - 0.5) / 0.25, torch.tensor(shapes.targets)


if __name__ == "__main__":
    config = Config()
    torch.manual_seed(config.seed)
    train, test = load(True), load(False)
    encoder = pretrain(config, train[0])
    linear_probe(config, encoder, train, test)
