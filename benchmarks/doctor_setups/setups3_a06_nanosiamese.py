"""
nanoSiamese: embed digits such that equal ones are near and others at least a margin apart.
One file, no frills. All pairs of a batch (and of two views of it) are used, which is cheap and gives plenty of both kinds.
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import draw_digits

# -----------------------------------------------------------------------------


@dataclass
class SiameseConfig:
    n_channel: int = 16
    n_embd: int = 32
    margin: float = 1.0
    noise: float = 0.2  # of the views, in units of the standard deviation of pixels
    max_shift: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    grad_clip: float = 1.0


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = config.n_channel
        self.trunk = nn.Sequential(
            nn.Conv2d(1, c, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(c, 2 * c, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * c, 2 * c, 3, padding=1),
            nn.ReLU(),
        )
        self.proj = nn.Linear(2 * c * 4 * 4, config.n_embd)
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            torch.nn.init.zeros_(module.bias)

    def forward(self, x):
        h = self.trunk(x)  # (B, 2c, 4, 4)
        z = self.proj(h.flatten(1))  # (B, n_embd)
        return F.normalize(z, dim=-1)

    def configure_optimizers(self, config):
        # matrices decay, biases don't
        params = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in params if p.dim() >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))


# -----------------------------------------------------------------------------


def make_loss(config):
    def contrastive_loss(z, y):
        i, j = torch.triu_indices(len(z), len(z), offset=1)  # every pair once
        d2 = (z[i] - z[j]).pow(2).sum(-1)
        d = (d2 + 1e-6).sqrt()
        same = (y[i] == y[j]).float()
        pull = (same * d2).sum() / same.sum().clamp(min=1)
        push = ((1 - same) * F.relu(config.margin - d).pow(2)).sum() / (1 - same).sum().clamp(min=1)
        return pull + push

    return contrastive_loss


def view(x, config):
    dy, dx = torch.randint(-config.max_shift, config.max_shift + 1, (2,)).tolist()
    x = torch.roll(x, shifts=(dy, dx), dims=(-2, -1))
    return x + config.noise * torch.randn_like(x)


def get_split(count, seed):
    images, labels = draw_digits(count, seed=seed)
    return (images.float() / 255 - 0.14) / 0.29, labels


def setup():
    torch.manual_seed(1337)
    config = SiameseConfig()
    model = Encoder(config)

    def step(model, batch, optimizer, loss_fn):
        model.train()
        x, y = batch
        a, b = view(x, config), view(x, config)
        z = model(torch.cat([a, b]))
        loss = loss_fn(z, torch.cat([y, y]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        return loss

    return {
        "model": model,
        "train": get_split(1200, seed=0),
        "val": get_split(300, seed=1),
        "loss": make_loss(config),
        "optimizer": model.configure_optimizers(config),
        "step": step,
    }
