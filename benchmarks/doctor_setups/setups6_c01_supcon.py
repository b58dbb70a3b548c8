"""Contrastive pre-training on digits, after SupContrast: two views of each image, made in the step."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits

opt = {"batch_size": 64, "temp": 0.2, "learning_rate": 2e-3, "weight_decay": 1e-4, "feat_dim": 32}


def to_tensor(image):
    return (image.float() / 255 - 0.2) / 0.35


def augment(images):
    """A random affine map for each image, and a little noise."""
    count = images.shape[0]
    scale = 0.9 + 0.2 * torch.rand(count)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = scale
    theta[:, 1, 1] = scale
    theta[:, :, 2] = 0.3 * (torch.rand(count, 2) - 0.5)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    views = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return views + 0.1 * torch.randn_like(views)


class SupConNet(nn.Module):
    def __init__(self, feat_dim=32):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 64),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, feat_dim))

    def forward(self, x):
        return F.normalize(self.head(self.encoder(x)), dim=1)


class SupConLoss(nn.Module):
    """Supervised contrastive learning, Khosla et al. 2020 (the sum over positives is outside of the logarithm)."""

    def __init__(self, temperature=0.2):
        super().__init__()
        self.temperature = temperature

    def forward(self, features, labels):
        similarity = features @ features.T / self.temperature
        itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
        positives = (labels[:, None] == labels[None, :]) & ~itself
        logits = similarity.masked_fill(itself, -1e9)
        log_prob = logits - torch.logsumexp(logits, dim=1, keepdim=True)
        count = positives.sum(1)
        mean_log_prob = log_prob.masked_fill(~positives, 0.0).sum(1) / count.clamp(min=1)
        return -mean_log_prob.sum() / (count > 0).sum().clamp(min=1)


def train_step(model, batch, optimizer, loss):
    images, labels = batch
    model.train()
    views = torch.cat([augment(images), augment(images)])
    value = loss(model(views), labels.repeat(2))
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def setup():
    torch.manual_seed(0)
    model = SupConNet(opt["feat_dim"])
    train = DataLoader(Digits(True, transform=to_tensor), batch_size=opt["batch_size"], shuffle=True, drop_last=True)
    val = DataLoader(Digits(False, transform=to_tensor), batch_size=100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=opt["learning_rate"], weight_decay=opt["weight_decay"])
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": SupConLoss(opt["temp"]),
        "optimizer": optimizer,
        "step": train_step,
    }
