"""Single-image super-resolution (x2) with a residual pixel-shuffle network, Hugging Face Accelerate and a dataclass config."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask


@dataclass
class Config:
    seed: int = 0
    scale: int = 2
    image_size: int = 40
    crop: int = 32
    train_images: int = 960
    valid_images: int = 160
    features: int = 24
    blocks: int = 2
    batch_size: int = 16
    epochs: int = 14
    lr: float = 2e-3


def paint(rng, size):
    """A gradient with a few shapes on it, sharp at full resolution."""
    y, x = np.mgrid[0:size, 0:size] / size
    slope = rng.uniform(-0.3, 0.3, (2, 3, 1, 1))
    image = 0.5 + slope[0] * (y - 0.5) + slope[1] * (x - 0.5)
    for _ in range(rng.integers(4, 8)):
        kind = ("square", "disc", "cross")[rng.integers(3)]
        width = int(rng.integers(7, 20))
        top, left = rng.integers(-4, size - 6, 2).tolist()
        mask = shape_mask(kind, size, top, left, width).numpy()
        image[:, mask] = rng.uniform(0.05, 0.95, (3, 1))
    return torch.from_numpy((image.clip(0, 1) * 255).round().astype(np.uint8))


class SuperResolutionDataset(Dataset):
    def __init__(self, config, train):
        rng = np.random.default_rng(config.seed + (100 if train else 200))
        count = config.train_images if train else config.valid_images
        self.images = [paint(rng, config.image_size) for _ in range(count)]
        self.scale, self.crop, self.train = config.scale, config.crop, train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        hr = self.images[index].float() / 255.0
        room = hr.shape[-1] - self.crop
        if self.train:
            top, left = torch.randint(0, room + 1, (2,)).tolist()
        else:
            top = left = room // 2
        hr = hr[:, top : top + self.crop, left : left + self.crop]
        if self.train:
            if torch.rand(()) < 0.5:
                hr = hr.flip(2)
            hr = torch.rot90(hr, int(torch.randint(0, 4, ())), (1, 2))
        lr = F.avg_pool2d(hr, self.scale)
        return {"lr": lr, "hr": hr.contiguous()}


class ResidualBlock(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(x)))


class SRNet(nn.Module):
    """Learns what is missing from the bicubic enlargement."""

    def __init__(self, config):
        super().__init__()
        self.scale = config.scale
        self.head = nn.Conv2d(3, config.features, 3, padding=1)
        self.body = nn.Sequential(*[ResidualBlock(config.features) for _ in range(config.blocks)])
        self.tail = nn.Sequential(
            nn.Conv2d(config.features, 3 * config.scale**2, 3, padding=1),
            nn.PixelShuffle(config.scale),
        )

    def forward(self, lr):
        base = F.interpolate(lr, scale_factor=self.scale, mode="bicubic", align_corners=False)
        features = F.relu(self.head(lr * 2 - 1))
        return base + self.tail(self.body(features))


def psnr(output, target, peak=1.0):
    """Decibels of each image of a batch."""
    mse = (output.clamp(0, 1) - target).pow(2).flatten(1).mean(1)
    return 10 * torch.log10(peak**2 / mse.clamp(min=1e-10))


def validate(accelerator, model, loader):
    model.eval()
    ours, bicubic = [], []
    for batch in loader:
        with torch.no_grad():
            output = model(batch["lr"])
        base = F.interpolate(batch["lr"], size=batch["hr"].shape[-2:], mode="bicubic", align_corners=False)
        ours.append(accelerator.gather_for_metrics(psnr(output, batch["hr"])))
        bicubic.append(accelerator.gather_for_metrics(psnr(base, batch["hr"])))
    return torch.cat(ours).mean().item(), torch.cat(bicubic).mean().item()


def training_function(config):
    accelerator = Accelerator(cpu=True)
    set_seed(config.seed)

    train_loader = DataLoader(
        SuperResolutionDataset(config, train=True), batch_size=config.batch_size, shuffle=True, drop_last=True
    )
    valid_loader = DataLoader(SuperResolutionDataset(config, train=False), batch_size=40)

    model = SRNet(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs * len(train_loader))
    model, optimizer, train_loader, valid_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, valid_loader, scheduler
    )

    for epoch in range(config.epochs):
        model.train()
        total_loss = 0.0
        for batch in train_loader:
            output = model(batch["lr"])
            loss = F.l1_loss(output, batch["hr"])
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            total_loss += loss.item()
        ours, bicubic = validate(accelerator, model, valid_loader)
        accelerator.print(
            f"epoch {epoch + 1}/{config.epochs}: train L1 {total_loss / len(train_loader):.4f}, "
            f"valid PSNR {ours:.2f} dB (bicubic {bicubic:.2f} dB)"
        )


if __name__ == "__main__":
    training_function(Config())
