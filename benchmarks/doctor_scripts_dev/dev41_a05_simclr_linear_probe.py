"""SimCLR on unlabelled digits, judged by a linear classifier on the frozen encoder."""
import math
import tempfile
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


@dataclass
class Config:
    seed: int = 3
    count: int = 1500
    train_count: int = 1200
    temperature: float = 0.2
    pretrain_epochs: int = 14
    pretrain_batch: int = 96
    pretrain_lr: float = 3e-3
    warmup_steps: int = 12
    probe_epochs: int = 12
    probe_lr: float = 5e-3


def augment(x):
    n = len(x)
    angle = (torch.rand(n) - 0.5) * 0.4
    scale = 0.85 + 0.3 * torch.rand(n)
    shift = (torch.rand(n, 2) - 0.5) * 0.3
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = [torch.stack([cos, -sin, shift[:, 0]], dim=1), torch.stack([sin, cos, shift[:, 1]], dim=1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, align_corners=False)
    return x * (0.7 + 0.6 * torch.rand(n, 1, 1, 1)) + 0.2 * torch.randn_like(x)


def block(n_in, n_out):
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2))


class Encoder(nn.Module):
    dim = 256

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(block(1, 16), block(16, 32), block(32, 64), nn.Flatten())

    def forward(self, x):
        return self.body(x)


class SimCLR(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.projector = nn.Sequential(nn.Linear(Encoder.dim, 64), nn.ReLU(), nn.Linear(64, 32))

    @torch.no_grad()
    def embed(self, x):
        return self.encoder(x)

    def forward(self, x):
        return self.projector(self.encoder(x))


class Probe(nn.Module):
    def __init__(self, encoder, classes=10):
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.linear = nn.Linear(encoder.dim, classes)

    def train(self, mode=True):
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, x):
        return self.linear(self.encoder(x))


def nt_xent(z, temperature):
    count = len(z) // 2
    z = F.normalize(z, dim=1)
    similarity = z @ z.t() / temperature
    similarity = similarity.masked_fill(torch.eye(2 * count, dtype=torch.bool), -1e9)
    partner = torch.cat([torch.arange(count, 2 * count), torch.arange(count)])
    return F.cross_entropy(similarity, partner)


def knn_accuracy(features, labels):
    features = F.normalize(features, dim=1)
    similarity = (features @ features.t()).fill_diagonal_(-2)
    return (labels[similarity.argmax(dim=1)] == labels).float().mean().item()


def pretrain(cfg, images, labels, path):
    model = SimCLR()
    loader = DataLoader(TensorDataset(images), batch_size=cfg.pretrain_batch, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.pretrain_lr, weight_decay=1e-4)
    total = cfg.pretrain_epochs * len(loader)

    def rate(step):
        if step < cfg.warmup_steps:
            return (step + 1) / cfg.warmup_steps
        return 0.5 * (1 + math.cos(math.pi * (step - cfg.warmup_steps) / (total - cfg.warmup_steps)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for epoch in range(cfg.pretrain_epochs):
        model.train()
        for (x,) in loader:
            views = torch.cat([augment(x), augment(x)])
            loss = nt_xent(model(views), cfg.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        model.eval()
        print(f"[pretrain {epoch:02d}] loss {loss.item():.3f}  knn {knn_accuracy(model.embed(images), labels):.3f}")
    torch.save({"config": asdict(cfg), "state_dict": model.state_dict()}, path)


def load_encoder(path):
    encoder = Encoder()
    state = torch.load(path)["state_dict"]
    state = {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}
    encoder.load_state_dict(state)
    return encoder


def linear_probe(cfg, encoder, train_set, test_set):
    probe = Probe(encoder)
    optimizer = torch.optim.Adam(probe.linear.parameters(), lr=cfg.probe_lr)
    train_loader, test_loader = DataLoader(train_set, batch_size=64, shuffle=True), DataLoader(test_set, batch_size=100)
    for epoch in range(cfg.probe_epochs):
        probe.train()
        for x, y in train_loader:
            loss = F.cross_entropy(probe(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        probe.eval()
        with torch.no_grad():
            hits = sum((probe(x).argmax(dim=1) == y).sum().item() for x, y in test_loader)
        print(f"[probe {epoch:02d}] loss {loss.item():.3f}  test accuracy {hits / len(test_set):.3f}")


if __name__ == "__main__":
    cfg = Config()
    torch.manual_seed(cfg.seed)
    images, labels = draw_digits(cfg.count, seed=cfg.seed)
    images = (images.float() / 255 - 0.16) / 0.30
    order = torch.randperm(cfg.count)
    train_ids, test_ids = order[: cfg.train_count], order[cfg.train_count :]
    path = tempfile.mkdtemp() + "/simclr.pt"
    pretrain(cfg, images[train_ids], labels[train_ids], path)
    train_set, test_set = (TensorDataset(images[ids], labels[ids]) for ids in (train_ids, test_ids))
    linear_probe(cfg, load_encoder(path), train_set, test_set)
