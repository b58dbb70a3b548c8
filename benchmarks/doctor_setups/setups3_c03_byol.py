"""BYOL: the online network predicts what a slowly following target network says of another view."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes

CONFIG = {"batch_size": 64, "base_tau": 0.98, "tau_steps": 2000, "proj": 32, "hidden": 64, "lr": 1e-3}


def augment(images):
    """A batch of views: each image moved, scaled and mirrored at random, with noise."""
    n = len(images)
    scale = torch.empty(n, device=images.device).uniform_(0.85, 1.1)
    mirror = torch.where(torch.rand(n, device=images.device) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = scale * mirror, scale
    theta[:, :, 2] = 0.2 * (2 * torch.rand(n, 2, device=images.device) - 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    views = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return views + 0.1 * torch.randn_like(views)


def mlp(inputs, hidden, outputs):
    return nn.Sequential(nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def encoder(hidden, proj):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), mlp(32 * 16, hidden, proj),
    )


class BYOL(nn.Module):
    def __init__(self, hidden, proj):
        super().__init__()
        self.online = encoder(hidden, proj)
        self.predictor = mlp(proj, hidden, proj)
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, first, second=None):
        second = first if second is None else second
        both = torch.cat([first, second])
        predicted_first, predicted_second = self.predictor(self.online(both)).chunk(2)
        with torch.no_grad():
            target_first, target_second = self.target(both).chunk(2)
        return torch.stack([predicted_first, predicted_second, target_second, target_first], dim=1)

    @torch.no_grad()
    def update_target(self, tau):
        for online, target in zip(self.online.parameters(), self.target.parameters()):
            target.mul_(tau).add_(online, alpha=1 - tau)


def byol_loss(outputs, _labels=None):
    predicted, target = outputs[:, :2], outputs[:, 2:]
    return (2 - 2 * F.cosine_similarity(predicted, target.detach(), dim=-1)).mean()


class Trainer:
    def __init__(self, config):
        self.config, self.steps = config, 0

    def tau(self):
        return self.config["base_tau"]

    def __call__(self, model, batch, optimizer, loss):
        images, labels = batch
        value = loss(model(augment(images), augment(images)), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        model.update_target(self.tau())
        self.steps += 1
        return value.detach()


def load(train):
    shapes = Shapes(train=train)
    return TensorDataset((torch.stack(shapes.images) - 0.5) / 0.2, torch.tensor(shapes.targets))


def setup():
    torch.manual_seed(2)
    model = BYOL(CONFIG["hidden"], CONFIG["proj"])
    trainable = [p for p in model.parameters() if p.requires_grad]
    return {
        "model": model,
        "train": DataLoader(load(True), batch_size=CONFIG["batch_size"], shuffle=True, drop_last=True),
        "val": DataLoader(load(False), batch_size=120),
        "loss": byol_loss,
        "optimizer": torch.optim.Adam(trainable, lr=CONFIG["lr"], weight_decay=1e-6),
        "step": Trainer(CONFIG),
    }
