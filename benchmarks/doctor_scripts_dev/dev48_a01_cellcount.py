"""Count cells in small microscope patches by regressing a density map."""
import argparse
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset

DENSITY_SCALE = 100.0


class CellPatches(Dataset):
    """Patches with one to six bright cells, and the density map whose sum is their number."""

    def __init__(self, count, size=24, seed=0, augment=False):
        rng = np.random.RandomState(seed)
        yy, xx = np.mgrid[0:size, 0:size]
        self.augment = augment
        self.images = np.zeros((count, 1, size, size), dtype=np.float32)
        self.densities = np.zeros((count, 1, size, size), dtype=np.float32)
        for i in range(count):
            for _ in range(rng.randint(1, 7)):
                cy, cx = rng.uniform(4, size - 5, size=2)
                squared = (yy - cy) ** 2 + (xx - cx) ** 2
                radius = rng.uniform(1.3, 2.0)
                self.images[i, 0] += rng.uniform(0.5, 0.9) * np.exp(-squared / (2 * radius ** 2))
                bump = np.exp(-squared / (2 * 1.5 ** 2))
                self.densities[i, 0] += DENSITY_SCALE * bump / bump.sum()
            self.images[i, 0] += rng.normal(0, 0.08, size=(size, size))

    def standardize(self, mean, std):
        self.images = ((self.images - mean) / std).astype(np.float32)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, density = self.images[index], self.densities[index]
        if self.augment and torch.rand(()) < 0.5:
            image, density = image[..., ::-1], density[..., ::-1]
        if self.augment and torch.rand(()) < 0.5:
            image, density = image[:, ::-1], density[:, ::-1]
        return torch.from_numpy(image.copy()), torch.from_numpy(density.copy())


def conv_bn(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class CountNet(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.low = nn.Sequential(conv_bn(1, width), conv_bn(width, width))
        self.down = nn.MaxPool2d(2)
        self.high = nn.Sequential(conv_bn(width, 2 * width), conv_bn(2 * width, 2 * width))
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.fuse = conv_bn(3 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        low = self.low(x)
        high = self.up(self.high(self.down(low)))
        x = self.fuse(torch.cat([low, high], dim=1))
        return self.head(x)


def train(args, model, device, loader, criterion, optimizer, epoch):
    model.train()
    for batch_idx, (image, density) in enumerate(loader):
        image, density = image.to(device), density.to(device)
        optimizer.zero_grad()
        output = model(image)
        loss = criterion(output, density)
        loss.backward()
        optimizer.step()
        if batch_idx % args.log_interval == 0:
            print(f"Train Epoch: {epoch} [{batch_idx * len(image)}/{len(loader.dataset)}]\tLoss: {loss.item():.4f}")


def evaluate(model, device, loader):
    model.eval()
    errors = []
    with torch.no_grad():
        for image, density in loader:
            output = model(image.to(device)).cpu()
            predicted = output.flatten(1).sum(dim=1) / DENSITY_SCALE
            actual = density.flatten(1).sum(dim=1) / DENSITY_SCALE
            errors.append(predicted - actual)
    errors = torch.cat(errors)
    return errors.abs().mean().item(), errors.pow(2).mean().sqrt().item()


def main():
    parser = argparse.ArgumentParser(description="PyTorch cell counting")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--step-size", type=int, default=4)
    parser.add_argument("--gamma", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-interval", type=int, default=10)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cpu")

    train_set = CellPatches(640, seed=0, augment=True)
    val_set = CellPatches(160, seed=1)
    test_set = CellPatches(160, seed=2)
    mean, std = train_set.images.mean(), train_set.images.std()
    for split in (train_set, val_set, test_set):
        split.standardize(mean, std)

    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=80)
    test_loader = DataLoader(test_set, batch_size=80)

    model = CountNet().to(device)
    criterion = nn.MSELoss()
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    scheduler = StepLR(optimizer, step_size=args.step_size, gamma=args.gamma)

    checkpoint = os.path.join(tempfile.mkdtemp(), "countnet.pt")
    best_mae = float("inf")
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, criterion, optimizer, epoch)
        mae, rmse = evaluate(model, device, val_loader)
        print(f"Validation: MAE {mae:.3f}, RMSE {rmse:.3f}")
        scheduler.step()
        if mae < best_mae:
            best_mae = mae
            torch.save(model.state_dict(), checkpoint)

    model.load_state_dict(torch.load(checkpoint))
    mae, rmse = evaluate(model, device, test_loader)
    print(f"Test: MAE {mae:.3f}, RMSE {rmse:.3f}")


if __name__ == "__main__":
    main()
