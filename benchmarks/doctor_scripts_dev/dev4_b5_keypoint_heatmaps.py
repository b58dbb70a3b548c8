"""Keypoints (left ear, right ear, chin) of small drawn heads, by heatmap regression with an FPN-like network."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

SIZE = 32
STRIDE = 2
HEAT = SIZE // STRIDE
SIGMA = 1.2
FLIP_PAIRS = [1, 0, 2]
EPOCHS = 10


def blob(cx, cy, radius):
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return torch.sigmoid(2.0 * (radius - ((x - cx) ** 2 + (y - cy) ** 2).sqrt()))


def draw_head(generator):
    """A disc with two equal ears above and a bright chin below; returns the image and (x, y) of the points."""
    cx, cy = (12 + 8 * torch.rand(2, generator=generator)).tolist()
    scale = 0.8 + 0.4 * torch.rand((), generator=generator).item()
    angle = 0.5 * (2 * torch.rand((), generator=generator).item() - 1)
    points = []
    for dx, dy in [(-5.5, -6.5), (5.5, -6.5), (0.0, 6.0)]:
        x = cx + scale * (dx * math.cos(angle) - dy * math.sin(angle))
        y = cy + scale * (dx * math.sin(angle) + dy * math.cos(angle))
        points.append((min(max(x, 0.5), SIZE - 1.5), min(max(y, 0.5), SIZE - 1.5)))
    image = 0.4 * blob(cx, cy, 6.0 * scale)
    for (x, y), level, radius in zip(points, (0.8, 0.8, 1.0), (2.0, 2.0, 1.3)):
        image = torch.maximum(image, level * blob(x, y, radius))
    image = image + 0.08 * torch.randn(SIZE, SIZE, generator=generator)
    return image.unsqueeze(0), torch.tensor(points)


def make_heatmaps(keypoints):
    """keypoints: K x 2 in pixels of the image -> K x HEAT x HEAT"""
    centers = keypoints / STRIDE
    grid = torch.arange(HEAT, dtype=torch.float32)
    dx = grid[None, None, :] - centers[:, 0, None, None]
    dy = grid[None, :, None] - centers[:, 1, None, None]
    return torch.exp(-(dx**2 + dy**2) / (2 * SIGMA**2))


class Heads(Dataset):
    def __init__(self, count, seed, augment=False):
        generator = torch.Generator().manual_seed(seed)
        self.samples = [draw_head(generator) for _ in range(count)]
        self.augment = augment

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image, keypoints = self.samples[index]
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(-1)
            keypoints = keypoints.clone()
            keypoints[:, 0] = SIZE - 1 - keypoints[:, 0]
            keypoints = keypoints[FLIP_PAIRS]
        return image, make_heatmaps(keypoints), keypoints


def block(cin, cout, stride):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


class HeatmapNet(nn.Module):
    def __init__(self, num_keypoints=3, width=24):
        super().__init__()
        self.c1 = block(1, 16, 2)
        self.c2 = block(16, 32, 2)
        self.c3 = nn.Sequential(block(32, 48, 2), block(48, 48, 1))
        self.lat1 = nn.Conv2d(16, width, 1)
        self.lat2 = nn.Conv2d(32, width, 1)
        self.lat3 = nn.Conv2d(48, width, 1)
        self.smooth = block(width, width, 1)
        self.head = nn.Conv2d(width, num_keypoints, 1)

    def forward(self, x):
        c1 = self.c1(x)
        c2 = self.c2(c1)
        c3 = self.c3(c2)
        l1, l2, l3 = self.lat1(c1), self.lat2(c2), self.lat3(c3)
        p2 = l2 + F.interpolate(l3, scale_factor=2, mode="nearest")
        p1 = l1 + F.interpolate(p2, scale_factor=2, mode="nearest")
        return self.head(self.smooth(p1))


def decode(heatmaps):
    """Peaks of the heatmaps as (x, y) in pixels of the image."""
    index = heatmaps.flatten(2).argmax(-1)
    xs, ys = index % HEAT, index // HEAT
    return torch.stack([xs, ys], dim=-1).float() * STRIDE


@torch.no_grad()
def evaluate(model, loader, threshold=1.5):
    model.eval()
    hits = count = 0
    error = 0.0
    for images, _, keypoints in loader:
        distance = (decode(model(images)) - keypoints).norm(dim=-1)
        hits += (distance < threshold).sum().item()
        error += distance.sum().item()
        count += distance.numel()
    return hits / count, error / count


def main():
    torch.manual_seed(0)
    train_loader = DataLoader(Heads(700, seed=1, augment=True), batch_size=32, shuffle=True)
    val_loader = DataLoader(Heads(200, seed=2), batch_size=64)
    model = HeatmapNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[6, 9], gamma=0.1)

    for epoch in range(EPOCHS):
        model.train()
        running, seen = 0.0, 0
        for images, heatmaps, _ in train_loader:
            optimizer.zero_grad()
            predicted = model(images)
            loss = F.mse_loss(predicted, heatmaps)
            loss.backward()
            optimizer.step()
            running += loss.item() * len(images)
            seen += len(images)
        scheduler.step()
        pck, error = evaluate(model, val_loader)
        print(f"[{epoch:02d}] loss {running / seen:.5f}  val PCK@1.5px {pck:.3f}  mean error {error:.2f}px")


if __name__ == "__main__":
    main()
