"""Denoising of small gray patches with a DnCNN (residual learning) and Accelerate."""
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, TensorDataset

SIGMA = 25 / 255


def make_patches(count, size, seed):
    """Slopes of gray with rectangles and a disc, values in 0 ... 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    patches = np.empty((count, 1, size, size), dtype=np.float32)
    for i in range(count):
        patch = 0.5 + rng.uniform(-0.3, 0.3) * (y - 0.5) + rng.uniform(-0.3, 0.3) * (x - 0.5)
        for _ in range(3):
            top, left = rng.uniform(0, 0.8, 2)
            height, width = rng.uniform(0.2, 0.6, 2)
            patch[(y >= top) & (y < top + height) & (x >= left) & (x < left + width)] = rng.uniform(0.1, 0.9)
        cy, cx = rng.uniform(0.2, 0.8, 2)
        patch[(y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(0.15, 0.3) ** 2] = rng.uniform(0.1, 0.9)
        patches[i, 0] = patch
    return torch.from_numpy(patches)


class DnCNN(nn.Module):
    """Predicts the noise, which is taken from the input."""

    def __init__(self, depth=5, width=20):
        super().__init__()
        layers = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(width, 1, 3, padding=1)]
        self.body = nn.Sequential(*layers)

    def forward(self, noisy):
        return noisy - self.body(noisy)


def psnr(image, reference):
    mse = (image - reference).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(1.0**2 / mse.clamp(min=1e-10))


def training_function(epochs=10, batch_size=16, lr=2e-3, seed=11):
    accelerator = Accelerator(cpu=True)
    set_seed(seed)

    train_clean = make_patches(1000, 24, seed=1)
    valid_clean = make_patches(200, 24, seed=2)
    generator = torch.Generator().manual_seed(3)
    valid_noisy = valid_clean + SIGMA * torch.randn(valid_clean.shape, generator=generator)
    accelerator.print(f"PSNR of the noisy patches: {psnr(valid_noisy, valid_clean).mean():.2f} dB")

    train_loader = DataLoader(TensorDataset(train_clean), batch_size=batch_size, shuffle=True)
    valid_loader = DataLoader(TensorDataset(valid_noisy, valid_clean), batch_size=50)
    model = DnCNN()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    steps = epochs * math.ceil(len(train_clean) / batch_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.01, 1 - step / steps))
    model, optimizer, train_loader, valid_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, valid_loader, scheduler
    )

    for epoch in range(epochs):
        model.train()
        total = 0.0
        for (clean,) in train_loader:
            noisy = clean + SIGMA * torch.randn_like(clean)
            denoised = model(noisy)
            loss = F.mse_loss(denoised, clean)
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            total += loss.item()

        model.eval()
        values = []
        for noisy, clean in valid_loader:
            with torch.no_grad():
                denoised = model(noisy).clamp(0, 1)
            values.append(accelerator.gather_for_metrics(psnr(denoised, clean)))
        value = torch.cat(values).mean().item()
        accelerator.print(f"epoch {epoch + 1}: train loss {total / len(train_loader):.5f}, valid PSNR {value:.2f} dB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    training_function()
