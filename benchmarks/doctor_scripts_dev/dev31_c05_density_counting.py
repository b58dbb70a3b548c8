"""Cell counting by density maps: the network predicts a map, whose sum is the count."""

import argparse

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

SCALE = 100.0  # density is tiny per pixel, so it is scaled for the loss


def gaussian(size, cy, cx, sigma):
    y, x = np.mgrid[0:size, 0:size]
    return np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))


class Cells(Dataset):
    """Bright blobs on a dim ground with noise, 1 to 10 of them."""

    def __init__(self, count, size=32, seed=0, augment=False):
        rng = np.random.default_rng(seed)
        self.augment = augment
        self.images = np.zeros((count, 1, size, size), dtype=np.float32)
        self.density = np.zeros((count, 1, size, size), dtype=np.float32)
        self.counts = rng.integers(1, 11, count)
        for i, number in enumerate(self.counts):
            for _ in range(number):
                cy, cx = rng.uniform(3, size - 4, 2)
                self.images[i, 0] += rng.uniform(0.6, 1.0) * gaussian(size, cy, cx, 1.4)
                spot = gaussian(size, cy, cx, 1.5)
                self.density[i, 0] += spot / spot.sum()
            self.images[i, 0] += 0.1 + 0.05 * rng.standard_normal((size, size))
        self.mean, self.std = 0.15, 0.2

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.from_numpy((self.images[index] - self.mean) / self.std)
        density = torch.from_numpy(self.density[index])
        if self.augment:
            k = int(torch.randint(0, 4, ()))
            image, density = torch.rot90(image, k, (1, 2)), torch.rot90(density, k, (1, 2))
        return image, density, float(self.counts[index])


class CountNet(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 5, padding=2), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(),
        )
        self.decoder = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, 1, 1),
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


def run_epoch(model, loader, optimizer=None):
    training = optimizer is not None
    model.train(training)
    total, loss_sum, abs_error = 0, 0.0, 0.0
    with torch.set_grad_enabled(training):
        for image, density, count in loader:
            predicted = model(image)
            loss = ((predicted - SCALE * density) ** 2).mean()
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            estimate = predicted.detach().sum(dim=(1, 2, 3)) / SCALE
            abs_error += (estimate - count.float()).abs().sum().item()
            loss_sum += loss.item() * len(image)
            total += len(image)
    return loss_sum / total, abs_error / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)

    train_set = Cells(600, seed=1, augment=True)
    val_set = Cells(150, seed=2)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=50)
    naive = np.abs(val_set.counts - train_set.counts.mean()).mean()
    print(f"MAE of always guessing the mean count: {naive:.2f}")

    model = CountNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs, eta_min=1e-5)
    for epoch in range(args.epochs):
        train_loss, train_mae = run_epoch(model, train_loader, optimizer)
        val_loss, val_mae = run_epoch(model, val_loader)
        scheduler.step()
        print(f"[{epoch + 1:02d}] loss {train_loss:.3f}/{val_loss:.3f}  count MAE {train_mae:.2f}/{val_mae:.2f}")


if __name__ == "__main__":
    main()
