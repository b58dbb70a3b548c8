"""Find cracks in asphalt: a small U-Net, trained with Accelerate on pairs of photographs and masks."""

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


def photograph_road(rng, size=32):
    """A photograph (bytes) and its mask, as annotation tools write it: 255 where there is a crack, else 0."""
    blotches = np.kron(rng.normal(0, 10, (4, 4)), np.ones((size // 4, size // 4)))
    road = rng.uniform(110, 160) + blotches + rng.normal(0, 13, (size, size))
    mask = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(1, 3))):
        y, x = rng.uniform(6, size - 6, 2)
        heading = rng.uniform(0, 2 * np.pi)
        for _ in range(int(rng.integers(20, 40))):
            row, column = int(y), int(x)
            if not (0 <= row < size - 1 and 0 <= column < size - 1):
                break
            mask[row : row + 2, column : column + 2] = 255
            heading += rng.normal(0, 0.25)
            y, x = y + np.sin(heading), x + np.cos(heading)
    road = road - (mask > 0) * rng.uniform(38, 60)
    for _ in range(int(rng.integers(0, 4))):  # pebbles and oil, dark as cracks are
        row, column = rng.integers(0, size - 5, 2)
        if not mask[row : row + 5, column : column + 5].any():
            road[row : row + 4, column : column + 4] -= rng.uniform(25, 50)
    return road.clip(0, 255).astype(np.uint8), mask


class Roads(Dataset):
    def __init__(self, count, seed, augment=False):
        rng = np.random.default_rng(seed)
        self.pairs = [photograph_road(rng) for _ in range(count)]
        self.augment = augment

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        road, mask = self.pairs[index]
        image = (torch.from_numpy(road).float()[None] - 130) / 30
        mask = torch.from_numpy(mask).float()[None] / 255
        if self.augment:
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return image, mask


def double(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.down1 = double(1, width)
        self.down2 = double(width, 2 * width)
        self.bottom = double(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.join2 = double(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.join1 = double(2 * width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        b = self.join2(torch.cat([self.up2(c), b], dim=1))
        a = self.join1(torch.cat([self.up1(b), a], dim=1))
        return self.out(a)


def segmentation_loss(logits, mask):
    """Cross entropy of the pixels and soft Dice of the images."""
    bce = F.binary_cross_entropy_with_logits(logits, mask)
    p = logits.sigmoid()
    common = (p * mask).sum((1, 2, 3))
    dice = (2 * common + 1) / (p.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1)
    return bce + (1 - dice).mean()


@torch.no_grad()
def measure(accelerator, model, loader):
    model.eval()
    common = union = 0
    for images, masks in loader:
        logits, masks = accelerator.gather_for_metrics((model(images), masks))
        found = torch.sigmoid(logits) > 0.5
        there = masks > 0.5
        common += (found & there).sum().item()
        union += (found | there).sum().item()
    return common / union


def main(epochs=12, batch_size=16, lr=3e-3):
    torch.set_num_threads(1)
    set_seed(11)
    accelerator = Accelerator(cpu=True)
    train_loader = DataLoader(Roads(880, seed=1, augment=True), batch_size=batch_size, shuffle=True)
    valid_loader = DataLoader(Roads(160, seed=2), batch_size=40)
    model = UNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
    model, optimizer, train_loader, valid_loader = accelerator.prepare(model, optimizer, train_loader, valid_loader)
    total = epochs * len(train_loader)
    step = 0
    for epoch in range(epochs):
        model.train()
        losses = []
        for images, masks in train_loader:
            for group in optimizer.param_groups:  # half a cosine, down to a hundredth
                group["lr"] = float(lr * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * step / total))))
            loss = segmentation_loss(model(images), masks)
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            losses.append(loss.item())
            step += 1
        iou = measure(accelerator, model, valid_loader)
        accelerator.print(f"epoch {epoch + 1:2d}: loss {np.mean(losses):.3f}, IoU of cracks {iou:.3f}")


if __name__ == "__main__":
    main()
