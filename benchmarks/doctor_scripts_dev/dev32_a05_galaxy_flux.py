"""Photometry of crowded fields: the summed flux of all galaxies in a cutout, whatever the sky behind them. Accelerate."""

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SIZE = 32


def observe(count, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    images, fluxes = np.zeros((count, 1, SIZE, SIZE), np.float32), np.zeros(count, np.float32)
    for i in range(count):
        sky = rng.uniform(0.1, 0.5) + rng.uniform(-0.2, 0.2) * (y / SIZE - 0.5) + rng.uniform(-0.2, 0.2) * (x / SIZE - 0.5)
        image = sky
        for _ in range(rng.integers(1, 8)):
            cy, cx = rng.uniform(5, SIZE - 5, 2)
            long, ratio, turn = rng.uniform(1.3, 2.5), rng.uniform(0.6, 1.0), rng.uniform(0, np.pi)
            p = np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy)
            q = -np.sin(turn) * (x - cx) + np.cos(turn) * (y - cy)
            peak = rng.uniform(0.3, 1.0)
            image = image + peak * np.exp(-0.5 * ((p / long) ** 2 + (q / (long * ratio)) ** 2))
            fluxes[i] += 10000 * peak * 2 * np.pi * long**2 * ratio
        images[i, 0] = image + rng.normal(0, 0.04, image.shape)
    return torch.from_numpy(images), torch.from_numpy(fluxes)


class FluxNet(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 5, padding=2, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(4 * width)
        self.fc1 = nn.Linear(4 * width, 64)
        self.fc2 = nn.Linear(64, 1)

    def forward(self, x):
        x = F.avg_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.avg_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        x = F.relu(self.norm3(self.conv3(x))).mean((2, 3))
        return self.fc2(F.relu(self.fc1(x)))


def evaluate(accelerator, model, loader, flux_mean, flux_std):
    model.eval()
    guesses, truths = [], []
    for images, fluxes in loader:
        with torch.no_grad():
            outputs = model(images).squeeze(1)
        outputs, fluxes = accelerator.gather_for_metrics((outputs, fluxes))
        guesses.append(outputs * flux_std + flux_mean)
        truths.append(fluxes * flux_std + flux_mean)
    guesses, truths = torch.cat(guesses), torch.cat(truths)
    mae = (guesses - truths).abs().mean().item()
    r2 = 1 - ((guesses - truths) ** 2).mean() / truths.var(unbiased=False)
    return mae, r2.item()


def main(epochs=14, batch_size=32):
    set_seed(11)
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)

    train_images, train_fluxes = observe(1600, seed=0)
    valid_images, valid_fluxes = observe(320, seed=1)
    pixel_mean, pixel_std = train_images.mean(), train_images.std()
    train_images, valid_images = (train_images - pixel_mean) / pixel_std, (valid_images - pixel_mean) / pixel_std
    flux_mean, flux_std = train_fluxes.mean().item(), train_fluxes.std().item()
    train_set = TensorDataset(train_images, (train_fluxes - flux_mean) / flux_std)
    valid_set = TensorDataset(valid_images, (valid_fluxes - flux_mean) / flux_std)

    train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=80)
    model = FluxNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=epochs * len(train_loader))
    model, optimizer, train_loader, valid_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, valid_loader, scheduler
    )

    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for images, fluxes in train_loader:
            loss = F.smooth_l1_loss(model(images).squeeze(1), fluxes)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            total += loss.item()
        mae, r2 = evaluate(accelerator, model, valid_loader, flux_mean, flux_std)
        accelerator.print(f"epoch {epoch}: loss {total / len(train_loader):.4f}, valid MAE {mae:.0f}, R2 {r2:.3f}")


if __name__ == "__main__":
    main()
