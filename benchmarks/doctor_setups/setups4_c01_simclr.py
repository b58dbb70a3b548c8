"""SimCLR on digits: two views are made in the step, the contrastive loss works with instance ids."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

config = {"temperature": 0.3, "batch_size": 64, "lr": 2e-3, "weight_decay": 1e-4, "feature_dim": 64, "out_dim": 32}


class SupConLoss(nn.Module):
    """Samples with equal ids are positives; with one id for each pair of views it is NT-Xent."""

    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, features, ids):
        z = F.normalize(features, dim=1)
        logits = z @ z.t() / self.temperature
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        logits = logits.masked_fill(itself, -1e9)
        log_prob = logits - torch.logsumexp(logits, dim=1, keepdim=True)
        positive = (ids[:, None] == ids[None, :]) & ~itself
        count = positive.sum(1)
        per_anchor = -log_prob.masked_fill(~positive, 0.0).sum(1) / count.clamp(min=1)
        return per_anchor.sum() / (count > 0).sum().clamp(min=1)


class Encoder(nn.Module):
    def __init__(self, dim, out_dim):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 4 * 4, dim), nn.ReLU(),
        )
        self.projector = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, out_dim))

    def forward(self, x):
        return self.projector(self.backbone(x))


def random_view(x):
    n = len(x)
    theta = torch.zeros(n, 2, 3, device=x.device)
    scale = 0.9 + 0.2 * torch.rand(n, device=x.device)
    theta[:, 0, 0] = scale
    theta[:, 1, 1] = scale
    theta[:, :, 2] = 0.3 * (torch.rand(n, 2, device=x.device) - 0.5)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    view = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    contrast = 0.8 + 0.4 * torch.rand(n, 1, 1, 1, device=x.device)
    return view * contrast + 0.1 * torch.randn_like(view)


def train_step(model, batch, optimizer, criterion):
    model.train()
    images = batch[0]
    ids = torch.arange(len(images), device=images.device).repeat(2)
    features = model(torch.cat([random_view(images), random_view(images)]))
    loss = criterion(features, ids)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(0)
    images, labels = draw_digits(1200, seed=0)
    images = (images.float() / 255 - 0.17) / 0.3
    loader = DataLoader(TensorDataset(images, labels), batch_size=config["batch_size"], shuffle=True, drop_last=True)
    model = Encoder(config["feature_dim"], config["out_dim"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
    return {"model": model, "train": loader, "val": None, "loss": SupConLoss(config["temperature"]),
            "optimizer": optimizer, "step": train_step}
