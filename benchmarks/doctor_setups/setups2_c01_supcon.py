"""Supervised contrastive embeddings of colored shapes, two views made in the step (after SupContrast)."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Shapes

cfg = dict(batch_size=64, lr=2e-3, temperature=0.1, feat_dim=32, width=24)


def normalize(image):
    return (image - 0.5) / 0.2


def random_view(images):
    """Per sample: mirror, shift by up to two pixels, change of brightness."""
    n = images.size(0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = 1.0
    theta[:, :, 2] = (torch.rand(n, 2) - 0.5) * 0.5
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    views = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)  # zero is the ground
    return views + 0.2 * torch.randn(n, 1, 1, 1)


class SupConNet(nn.Module):
    def __init__(self, width, feat_dim):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, feat_dim))

    def forward(self, x):
        return F.normalize(self.head(self.encoder(x)), dim=1)


class SupConLoss(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, features, labels):
        itself = torch.eye(len(labels), dtype=torch.bool)
        logits = (features @ features.t() / self.temperature).masked_fill(itself, -1e9)
        log_prob = logits - torch.logsumexp(logits, dim=1, keepdim=True)
        positive = (labels[:, None] == labels[None, :]) & ~itself
        per_anchor = (log_prob * positive).sum(1) / positive.sum(1).clamp(min=1)
        return -per_anchor.mean()


def train_step(model, batch, optimizer, criterion):
    images, labels = batch
    views = torch.cat([random_view(images), random_view(images)])
    optimizer.zero_grad()
    loss = criterion(model(views), labels.repeat(2))
    loss.backward()
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(0)
    train_set = Shapes(train=True, transform=normalize)
    val_set = Shapes(train=False, transform=normalize)
    train = DataLoader(train_set, batch_size=cfg["batch_size"], shuffle=True, drop_last=True)
    val = DataLoader(val_set, batch_size=cfg["batch_size"])
    model = SupConNet(cfg["width"], cfg["feat_dim"])
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg["lr"])
    return dict(model=model, train=train, val=val, loss=SupConLoss(cfg["temperature"]), optimizer=optimizer, step=train_step)
