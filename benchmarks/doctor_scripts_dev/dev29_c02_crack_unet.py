"""Concrete crack segmentation with a small U-Net (BCE + Dice)."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(7)
SIZE = 32


def draw_slab(generator):
    """One gray slab with one or two cracks that wander across it, and the mask of the cracks."""
    def rand(low, high):
        return low + (high - low) * torch.rand((), generator=generator).item()

    mask = torch.zeros(SIZE, SIZE)
    for _ in range(1 + int(rand(0, 2))):
        y, x, angle = rand(4, SIZE - 4), 0.0, rand(-0.5, 0.5)
        if rand(0, 1) < 0.5:
            y, x, angle = 0.0, rand(4, SIZE - 4), math.pi / 2 + rand(-0.5, 0.5)
        while 0 <= y < SIZE - 1 and 0 <= x < SIZE - 1:
            mask[int(y) : int(y) + 2, int(x) : int(x) + 2] = 1
            angle += rand(-0.35, 0.35)
            y, x = y + 0.8 * math.sin(angle), x + 0.8 * math.cos(angle)
            if y < 0 or x < 0:
                break
    tilt = torch.linspace(-0.1, 0.1, SIZE)
    image = 0.6 + rand(-1, 1) * tilt[:, None] + rand(-1, 1) * tilt[None]
    image = image - rand(0.22, 0.35) * mask + 0.06 * torch.randn(SIZE, SIZE, generator=generator)
    return image.clamp(0, 1)[None], mask[None]


def build(count, seed):
    generator = torch.Generator().manual_seed(seed)
    pairs = [draw_slab(generator) for _ in range(count)]
    images, masks = (torch.stack(part) for part in zip(*pairs))
    return TensorDataset((images - 0.55) / 0.15, masks)


class DoubleConv(nn.Sequential):
    def __init__(self, cin, cout):
        super().__init__(
            nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
            nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.inc = DoubleConv(1, width)
        self.down1 = DoubleConv(width, 2 * width)
        self.down2 = DoubleConv(2 * width, 4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec1 = DoubleConv(4 * width, 2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec2 = DoubleConv(2 * width, width)
        self.outc = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        y = self.dec1(torch.cat([x2, self.up1(x3)], dim=1))
        y = self.dec2(torch.cat([x1, self.up2(y)], dim=1))
        return self.outc(y)


def dice_loss(logits, target, eps=1.0):
    prob = torch.sigmoid(logits).flatten(1)
    target = target.flatten(1)
    inter = (prob * target).sum(1)
    return (1 - (2 * inter + eps) / (prob.sum(1) + target.sum(1) + eps)).mean()


def train_one_epoch(model, loader, optimizer):
    model.train()
    running = 0.0
    for images, masks in loader:
        logits = model(images)
        loss = F.binary_cross_entropy_with_logits(logits, masks) + dice_loss(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item()
    return running / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    inter = union = 0.0
    for images, masks in loader:
        pred = torch.sigmoid(model(images)) > 0.5
        truth = masks > 0.5
        inter += (pred & truth).sum().item()
        union += (pred | truth).sum().item()
    return inter / union


if __name__ == "__main__":
    train_loader = DataLoader(build(640, seed=0), batch_size=16, shuffle=True)
    val_loader = DataLoader(build(160, seed=1), batch_size=32)
    model = UNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[9, 13], gamma=0.3)
    for epoch in range(1, 16):
        loss = train_one_epoch(model, train_loader, optimizer)
        iou = evaluate(model, val_loader)
        scheduler.step()
        print(f"[{epoch:02d}/15] train loss {loss:.4f} | val IoU {iou:.4f}")
