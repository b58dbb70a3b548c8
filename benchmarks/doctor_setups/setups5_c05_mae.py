"""Masked autoencoder: a small ViT sees half of the patches of a digit and paints the others."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from toydata import Digits


def transform(image):
    return (image.float() / 255 - 0.17) / 0.31


def patchify(images, p):
    n, c, h, w = images.shape
    x = images.reshape(n, c, h // p, p, w // p, p)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(n, (h // p) * (w // p), p * p * c)


def sincos_1d(dim, positions):
    omega = 1.0 / 100 ** (torch.arange(dim // 2).float() / (dim // 2))
    angles = positions.float()[:, None] * omega[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_2d(dim, grid):
    rows, cols = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    return torch.cat([sincos_1d(dim // 2, rows.flatten()), sincos_1d(dim // 2, cols.flatten())], dim=1)


def transformer(dim, depth, heads=4):
    layer = nn.TransformerEncoderLayer(
        dim, heads, dim_feedforward=2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(dim), enable_nested_tensor=False)


class MaskedAutoencoder(nn.Module):
    def __init__(self, size=16, patch=4, dim=48, depth=2, decoder_depth=1, mask_ratio=0.5):
        super().__init__()
        self.patch, self.mask_ratio = patch, mask_ratio
        grid = size // patch
        self.embed = nn.Linear(patch * patch, dim)
        self.pos = nn.Parameter(0.02 * torch.randn(1, grid * grid, dim))
        self.encoder = transformer(dim, depth)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.decoder = transformer(dim, decoder_depth)
        self.head = nn.Linear(dim, patch * patch)

    def forward(self, images):
        patches = patchify(images, self.patch)
        n, length, _ = patches.shape
        keep = int(length * (1 - self.mask_ratio))
        order = torch.rand(n, length, device=images.device).argsort(dim=1)
        restore = order.argsort(dim=1)
        tokens = self.embed(patches) + self.pos
        dim = tokens.shape[2]
        visible = torch.gather(tokens, 1, order[:, :keep, None].expand(-1, -1, dim))
        encoded = self.encoder(visible)
        filled = torch.cat([encoded, self.mask_token.expand(n, length - keep, -1)], dim=1)
        filled = torch.gather(filled, 1, restore[:, :, None].expand(-1, -1, dim)) + self.pos
        mask = (restore >= keep).float()
        return self.head(self.decoder(filled)), patches, mask


class MaskedMSE(nn.Module):
    """Mean squared error over the pixels of hidden patches."""

    def forward(self, outputs, targets):
        predicted, patches, mask = outputs
        error = ((predicted - patches) ** 2).mean(dim=2)
        return (error * mask).sum() / mask.sum()


def setup():
    torch.manual_seed(4)
    train = DataLoader(Digits(True, transform=transform, noise=0.03, shift=1), batch_size=64, shuffle=True)
    val = DataLoader(Digits(False, transform=transform, noise=0.03, shift=1), batch_size=100)
    model = MaskedAutoencoder()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05)
    return dict(model=model, train=train, val=val, loss=MaskedMSE(), optimizer=optimizer)
