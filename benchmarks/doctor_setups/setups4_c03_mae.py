"""Masked image modelling of digits: some patches are replaced by a learned token and predicted."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

cfg = dict(image_size=16, patch=4, dim=64, heads=4, depth=2, mask_ratio=0.5, lr=1.5e-3, wd=0.01, batch_size=64)


def patchify(images, p):
    n, c, h, w = images.shape
    x = images.reshape(n, c, h // p, p, w // p, p)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(n, (h // p) * (w // p), p * p * c)


class MaskedModel(nn.Module):
    """forward(images) gives (predicted patches, true patches, mask)."""

    def __init__(self, image_size, patch, dim, heads, depth, mask_ratio):
        super().__init__()
        self.patch = patch
        self.count = (image_size // patch) ** 2
        self.masked = int(self.count * mask_ratio)
        self.embed = nn.Linear(patch * patch, dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.pos = nn.Parameter(0.02 * torch.randn(1, self.count, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.0, activation="gelu",
                                           batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, patch * patch)

    def random_mask(self, n, device):
        rank = torch.rand(n, self.count, device=device).argsort(dim=1).argsort(dim=1)
        return rank < self.masked

    def forward(self, images):
        patches = patchify(images, self.patch)
        mask = self.random_mask(len(images), images.device)
        tokens = self.embed(patches)
        tokens = torch.where(mask[..., None], self.mask_token.expand_as(tokens), tokens)
        hidden = self.encoder(tokens + self.pos)
        return self.head(self.norm(hidden)), patches, mask


def masked_mse(outputs, targets=None):
    predicted, patches, mask = outputs
    error = ((predicted - patches) ** 2).mean(dim=-1)
    return (error * mask).sum() / mask.sum()


def loader(count, seed, train):
    images, labels = draw_digits(count, size=cfg["image_size"], seed=seed, shift=1, noise=0.05)
    images = (images.float() / 255 - 0.15) / 0.3
    return DataLoader(TensorDataset(images, labels), batch_size=cfg["batch_size"], shuffle=train, drop_last=train)


def build_optimizer(model):
    decay = [p for p in model.parameters() if p.ndim == 2]
    no_decay = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": decay, "weight_decay": cfg["wd"]}, {"params": no_decay, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=cfg["lr"], betas=(0.9, 0.95))


def setup():
    torch.manual_seed(0)
    model = MaskedModel(cfg["image_size"], cfg["patch"], cfg["dim"], cfg["heads"], cfg["depth"], cfg["mask_ratio"])
    return {
        "model": model,
        "train": loader(1200, 0, True),
        "val": loader(300, 1, False),
        "loss": masked_mse,
        "optimizer": build_optimizer(model),
    }
