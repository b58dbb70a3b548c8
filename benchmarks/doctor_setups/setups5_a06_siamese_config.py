"""Supervised siamese embeddings of digits; research repo with a config dict."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

config = {
    "seed": 7,
    "data": {"n_train": 1200, "n_val": 300, "batch_size": 64, "noise": 0.1, "max_shift": 1},
    "model": {"channels": (16, 32, 48), "feat_dim": 48, "proj_dim": 16},
    "loss": {"margin": 1.0},
    "optim": {"name": "Adam", "lr": 2e-3, "weight_decay": 1e-5},
}


class Encoder(nn.Module):
    def __init__(self, channels):
        super().__init__()
        layers, inp = [], 1
        for out in channels:
            layers += [nn.Conv2d(inp, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
            inp = out
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x).flatten(1)


class SiameseNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.encoder = Encoder(cfg["channels"])
        self.projector = nn.Sequential(
            nn.Linear(cfg["channels"][-1] * 2 * 2, cfg["feat_dim"]), nn.ReLU(), nn.Linear(cfg["feat_dim"], cfg["proj_dim"])
        )

    def forward(self, x):
        h = self.encoder(x)
        return F.normalize(self.projector(h), dim=1)


class ContrastiveLoss(nn.Module):
    """Hadsell et al. 2006, over all pairs of the batch; positives and negatives are averaged apart."""

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, z, labels):
        sq_dist = (2 - 2 * z @ z.t()).clamp(min=1e-6)
        dist = sq_dist.sqrt()
        same = labels[:, None] == labels[None, :]
        off_diagonal = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
        pos = (same & off_diagonal).float()
        neg = (~same & off_diagonal).float()
        pull = (pos * sq_dist).sum() / pos.sum().clamp(min=1)
        push = (neg * F.relu(self.margin - dist).pow(2)).sum() / neg.sum().clamp(min=1)
        return pull + push


class TwoViews:
    def __init__(self, cfg):
        self.noise, self.max_shift = cfg["noise"], cfg["max_shift"]

    def view(self, x):
        dy, dx = torch.randint(-self.max_shift, self.max_shift + 1, (2,)).tolist()
        x = torch.roll(x, shifts=(dy, dx), dims=(2, 3))
        return x + self.noise * torch.randn_like(x)

    def __call__(self, x):
        return self.view(x), self.view(x)


def build_step(cfg):
    augment = TwoViews(cfg["data"])

    def step(model, batch, optimizer, criterion):
        x, y = batch
        v1, v2 = augment(x)
        z = model(torch.cat([v1, v2], dim=0))
        loss = criterion(z, y.repeat(2))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    return step


def build_loader(cfg, split):
    count, seed = (cfg["n_train"], 0) if split == "train" else (cfg["n_val"], 1)
    images, labels = draw_digits(count, seed=seed)
    images = (images.float() / 255 - 0.25) / 0.35
    return DataLoader(TensorDataset(images, labels), batch_size=cfg["batch_size"], shuffle=split == "train", drop_last=split == "train")


def setup():
    cfg = config
    torch.manual_seed(cfg["seed"])
    model = SiameseNet(cfg["model"])
    opt = getattr(torch.optim, cfg["optim"]["name"])
    optimizer = opt(model.parameters(), lr=cfg["optim"]["lr"], weight_decay=cfg["optim"]["weight_decay"])
    return {
        "model": model,
        "train": build_loader(cfg["data"], "train"),
        "val": build_loader(cfg["data"], "val"),
        "loss": ContrastiveLoss(**cfg["loss"]),
        "optimizer": optimizer,
        "step": build_step(cfg),
    }
