"""Masked autoencoder on digits: half of the 4 x 4 patches are hidden, and the loss is over those alone."""

import torch
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits

PATCH = 4
cfg = dict(batch_size=64, mask_ratio=0.5, lr=2e-3, weight_decay=0.01, latent=128)


def standardize(image):
    return (image.float() / 255 - 0.2) / 0.35


class MaskCollate:
    """Inputs: the image with hidden patches set to zero, and the mask. Targets: the whole image, and the mask."""

    def __init__(self, mask_ratio):
        self.mask_ratio = mask_ratio

    def random_masks(self, count, side):
        patches = side * side
        hidden = int(patches * self.mask_ratio)
        order = torch.rand(count, patches).argsort(dim=1)
        mask = torch.zeros(count, patches).scatter_(1, order[:, :hidden], 1.0)
        mask = mask.view(count, 1, side, side)
        return mask.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)

    def __call__(self, samples):
        images = torch.stack([image for image, _ in samples])
        mask = self.random_masks(len(images), images.shape[-1] // PATCH)
        inputs = torch.cat([images * (1 - mask), mask], dim=1)
        return inputs, torch.cat([images, mask], dim=1)


class MaskedAutoencoder(nn.Module):
    def __init__(self, latent=128):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(2, 32, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, latent),
            nn.GELU(),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, 64 * 4 * 4),
            nn.GELU(),
            nn.Unflatten(1, (64, 4, 4)),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1),
        )

    def forward(self, x):
        image, mask = x[:, :1], x[:, 1:]
        return self.decoder(self.encoder(torch.cat([image, mask], dim=1)))


class MaskedMSE(nn.Module):
    """Mean squared error over hidden pixels."""

    def forward(self, prediction, target):
        image, mask = target[:, :1], target[:, 1:]
        return ((prediction - image) ** 2 * mask).sum() / mask.sum()


def setup():
    torch.manual_seed(4)
    model = MaskedAutoencoder(cfg["latent"])
    collate = MaskCollate(cfg["mask_ratio"])
    train_set = Digits(train=True, count=1500, transform=standardize)
    val_set = Digits(train=False, transform=standardize)
    return {
        "model": model,
        "train": DataLoader(train_set, cfg["batch_size"], shuffle=True, collate_fn=collate),
        "val": DataLoader(val_set, 100, collate_fn=collate),
        "loss": MaskedMSE(),
        "optimizer": torch.optim.AdamW(model.parameters(), lr=cfg["lr"], weight_decay=cfg["weight_decay"]),
        "task": "regress",
    }
