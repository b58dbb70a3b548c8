"""A denoising autoencoder in one file, in the manner of nanoGPT's train.py."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


@dataclass
class Config:
    n_chan: int = 24
    noise: float = 0.6
    batch_size: int = 64
    gradient_accumulation_steps: int = 2
    learning_rate: float = 1e-3
    min_lr: float = 1e-4
    warmup_iters: int = 20
    lr_decay_iters: int = 500
    weight_decay: float = 1e-2
    grad_clip: float = 1.0


class NoisyDigits(Dataset):
    """x is y with noise on top; pixels lie in [-1, 1]. Training draws new noise each time, val keeps its own."""

    def __init__(self, split, config):
        images, _ = draw_digits(1200 if split == "train" else 300, seed=30 if split == "train" else 31, noise=0.0)
        self.clean = images.float() / 127.5 - 1
        self.split, self.noise = split, config.noise
        self.fixed = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(1337))

    def __len__(self):
        return len(self.clean)

    def __getitem__(self, i):
        y = self.clean[i]
        eps = torch.randn_like(y) if self.split == "train" else self.fixed[i]
        return y + self.noise * eps, y


class Denoiser(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = config.n_chan
        self.stem = nn.Conv2d(1, c, 3, padding=1)
        self.down = nn.Conv2d(c, 2 * c, 3, stride=2, padding=1)
        self.mid = nn.Conv2d(2 * c, 2 * c, 3, padding=1)
        self.up = nn.ConvTranspose2d(2 * c, c, 2, stride=2)
        self.head = nn.Conv2d(c, 1, 3, padding=1)
        self.apply(self._init_weights)
        # special init of the output projection: predictions begin near zero
        nn.init.normal_(self.head.weight, std=0.005)

    def _init_weights(self, module):
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)

    def forward(self, x):
        x = x.to(self.stem.weight.dtype)
        s = F.relu(self.stem(x))
        h = F.relu(self.down(s))
        h = h + F.relu(self.mid(h))
        h = F.relu(self.up(h)) + s
        out = self.head(h)
        return out.float()

    def configure_optimizers(self, config):
        decay_params = [p for p in self.parameters() if p.dim() >= 2]
        nodecay_params = [p for p in self.parameters() if p.dim() < 2]
        groups = [
            {"params": decay_params, "weight_decay": config.weight_decay},
            {"params": nodecay_params, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def get_lr(it, config):
    if it < config.warmup_iters:
        return config.learning_rate * (it + 1) / config.warmup_iters
    if it > config.lr_decay_iters:
        return config.min_lr
    ratio = (it - config.warmup_iters) / (config.lr_decay_iters - config.warmup_iters)
    return config.min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (config.learning_rate - config.min_lr)


def make_step(config):
    def step(model, batch, optimizer, loss_fn):
        for group in optimizer.param_groups:
            it = group.get("iter_num", 0)
            group["lr"], group["iter_num"] = get_lr(it, config), it + 1
        n = config.gradient_accumulation_steps
        total = 0.0
        for x, y in zip(batch[0].chunk(n), batch[1].chunk(n)):
            loss = loss_fn(model(x), y) / n
            loss.backward()
            total = total + loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        # flush the gradients as soon as we can, no need for this memory anymore
        optimizer.zero_grad(set_to_none=True)
        return total

    return step


def setup():
    torch.manual_seed(1337)
    config = Config()
    train = DataLoader(NoisyDigits("train", config), batch_size=config.batch_size, shuffle=True, drop_last=True)
    val = DataLoader(NoisyDigits("val", config), batch_size=100)
    model = Denoiser(config)
    optimizer = model.configure_optimizers(config)
    return dict(model=model, train=train, val=val, loss=F.mse_loss, optimizer=optimizer, step=make_step(config), task="regress")
