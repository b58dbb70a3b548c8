"""Keypoints: the corners of a tilted triangle in order of color, as heatmaps read by a soft argmax. Horizontal flips move
the points as well."""

import argparse
import math
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

COLORS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.9]])


class MarkerDataset(Dataset):
    """Three colored markers on a gray ground; points are (x, y) between 0 and 1: red, green, blue."""

    def __init__(self, count, size, seed, augment=False):
        g = torch.Generator().manual_seed(seed)
        center = 0.5 + 0.1 * (2 * torch.rand(count, 1, 2, generator=g) - 1)
        angle = 2 * math.pi * torch.rand(count, 1, generator=g) + torch.arange(3) * 2 * math.pi / 3
        radius = 0.18 + 0.12 * torch.rand(count, 1, 1, generator=g)
        self.points = center + radius * torch.stack([angle.cos(), angle.sin()], dim=-1)
        axis = (torch.arange(size) + 0.5) / size
        dx = axis.view(1, 1, 1, size) - self.points[..., 0, None, None]
        dy = axis.view(1, 1, size, 1) - self.points[..., 1, None, None]
        blobs = torch.exp(-(dx**2 + dy**2) / (2 * 0.05**2))
        ink = (COLORS - 0.5).view(1, 3, 3, 1, 1) * blobs.unsqueeze(2)
        noise = 0.05 * torch.randn(count, 3, size, size, generator=g)
        self.images = (0.5 + ink.sum(1) + noise).clamp(0, 1)
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, points = self.images[index], self.points[index]
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(-1)
            points = torch.stack([1 - points[:, 0], points[:, 1]], dim=1)
        return (image - 0.5) / 0.2, points


class KeypointNet(nn.Module):
    def __init__(self, points=3, width=32):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.heatmap = nn.Conv2d(width, points, 1)

    def forward(self, images):
        scores = self.heatmap(self.body(images))
        batch, points, height, width = scores.shape
        share = scores.flatten(2).softmax(dim=-1).view(batch, points, height, width)
        ys = (torch.arange(height, device=scores.device) + 0.5) / height
        xs = (torch.arange(width, device=scores.device) + 0.5) / width
        x = (share.sum(dim=2) * xs).sum(-1)
        y = (share.sum(dim=3) * ys).sum(-1)
        return torch.stack([x, y], dim=-1)


@torch.no_grad()
def evaluate(model, loader, tolerance=0.03):
    """Mean distance, in widths of the picture, and the share of points nearer than the tolerance."""
    model.eval()
    distances = torch.cat([(model(x) - y).norm(dim=-1) for x, y in loader])
    return distances.mean().item(), (distances < tolerance).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--size", type=int, default=24)
    parser.add_argument("--beta", type=float, default=0.02, help="where smooth L1 turns straight")
    args = parser.parse_args()

    torch.manual_seed(42)
    train_set = MarkerDataset(2000, args.size, seed=31, augment=True)
    val_set = MarkerDataset(300, args.size, seed=32)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=150)

    model = KeypointNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=1)
    best = float("inf")
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(1, args.epochs + 1):
            model.train()
            total = 0.0
            for images, points in train_loader:
                loss = F.smooth_l1_loss(model(images), points, beta=args.beta)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total = total + loss.detach() * len(images)
            distance, near = evaluate(model, val_loader)
            scheduler.step(distance)
            print(f"epoch {epoch} loss {float(total) / len(train_set):.5f} distance {distance:.4f} within 3%: {near:.3f}")
            if distance < best:
                best = distance
                torch.save(model.state_dict(), os.path.join(folder, "keypoints.pt"))
    print(f"best mean distance {best:.4f}")


if __name__ == "__main__":
    main()
