"""Semantic segmentation of synthetic shape scenes with a small U-Net.

The masks follow the VOC convention: 0 is background, 255 marks the void
contour around each object and is ignored by the loss and by the metric.
"""
import argparse
import copy
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

CLASSES = ("background", "disc", "square", "triangle")
NUM_CLASSES = len(CLASSES)
IGNORE = 255


def draw_scene(rng, size):
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    image = np.ones((size, size, 3), np.float32) * rng.uniform(0.3, 0.7, 3)
    mask = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(2, 5)):
        label = rng.integers(1, NUM_CLASSES)
        radius = rng.uniform(5, 10)
        cy, cx = rng.uniform(0.15 * size, 0.85 * size, 2)
        dy, dx = yy - cy, xx - cx
        if label == 1:
            dist = np.hypot(dy, dx)
        elif label == 2:
            dist = 1.15 * np.maximum(np.abs(dy), np.abs(dx))
        else:
            dist = np.maximum(1.3 * dy, 1.7 * np.abs(dx) - dy)
        image[dist <= radius] = rng.uniform(0, 1, 3)
        mask[dist <= radius] = label
        mask[np.abs(dist - radius) < 0.7] = IGNORE
    image += rng.normal(0, 0.05, image.shape)
    return image.clip(0, 1).astype(np.float32).transpose(2, 0, 1), mask


def make_split(count, size, seed):
    rng = np.random.default_rng(seed)
    images, masks = zip(*(draw_scene(rng, size) for _ in range(count)))
    return np.stack(images), np.stack(masks)


class JointAugment:
    """Color jitter on the image; flip and crop on the image and its mask together."""
    def __init__(self, crop, brightness=0.15, contrast=0.2):
        self.crop, self.brightness, self.contrast = crop, brightness, contrast

    def __call__(self, image, mask):
        gain = random.uniform(1 - self.contrast, 1 + self.contrast)
        shift = random.uniform(-self.brightness, self.brightness)
        image = (image * gain + shift).clamp(0, 1)
        if random.random() < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        top = random.randint(0, image.shape[-2] - self.crop)
        left = random.randint(0, image.shape[-1] - self.crop)
        image = image[:, top:top + self.crop, left:left + self.crop]
        mask = mask[top:top + self.crop, left:left + self.crop]
        return image, mask


class ShapesDataset(Dataset):
    def __init__(self, images, masks, mean, std, augment=None):
        self.images, self.masks, self.augment = images, masks, augment
        self.mean, self.std = torch.from_numpy(mean).view(3, 1, 1), torch.from_numpy(std).view(3, 1, 1)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.from_numpy(self.images[index])
        mask = torch.from_numpy(self.masks[index]).long()
        if self.augment is not None:
            image, mask = self.augment(image, mask)
        return (image - self.mean) / self.std, mask


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class Up(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.up = nn.ConvTranspose2d(cin, cout, 2, stride=2)
        self.conv = double_conv(2 * cout, cout)

    def forward(self, x, skip):
        x = self.up(x)
        return self.conv(torch.cat([skip, x], dim=1))


class UNet(nn.Module):
    def __init__(self, num_classes, widths=(8, 16, 32, 48)):
        super().__init__()
        self.stem = double_conv(3, widths[0])
        self.down = nn.ModuleList(double_conv(a, b) for a, b in zip(widths, widths[1:]))
        self.up = nn.ModuleList(Up(b, a) for a, b in reversed(list(zip(widths, widths[1:]))))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x):
        feats = [self.stem(x)]
        for block in self.down:
            feats.append(block(F.max_pool2d(feats[-1], 2)))
        x = feats.pop()
        for block in self.up:
            x = block(x, feats.pop())
        return self.head(x)


def class_weights(masks):
    counts = np.bincount(masks[masks != IGNORE], minlength=NUM_CLASSES)
    weights = 1.0 / np.sqrt(counts / counts.sum())
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def dice_loss(logits, target, eps=1.0):
    valid = (target != IGNORE).unsqueeze(1)
    onehot = F.one_hot(target.masked_fill(target == IGNORE, 0), NUM_CLASSES).permute(0, 3, 1, 2) * valid
    probs = logits.softmax(dim=1) * valid
    inter = (probs * onehot).sum(dim=(0, 2, 3))
    total = probs.sum(dim=(0, 2, 3)) + onehot.sum(dim=(0, 2, 3))
    score = (2 * inter + eps) / (total + eps)
    return 1 - score.mean()


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    hist = torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.long)
    for image, target in loader:
        pred = model(image).argmax(dim=1)
        keep = target != IGNORE
        index = target[keep] * NUM_CLASSES + pred[keep]
        hist += torch.bincount(index, minlength=NUM_CLASSES ** 2).view(NUM_CLASSES, NUM_CLASSES)
    inter = hist.diag().double()
    iou = inter / (hist.sum(0) + hist.sum(1) - inter).clamp(min=1)
    return iou.mean().item(), iou.tolist()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    train_images, train_masks = make_split(400, 48, seed=1)
    val_images, val_masks = make_split(100, 48, seed=2)
    test_images, test_masks = make_split(100, 48, seed=3)
    mean, std = train_images.mean((0, 2, 3)), train_images.std((0, 2, 3))
    train_set = ShapesDataset(train_images, train_masks, mean, std, JointAugment(40))
    val_set = ShapesDataset(val_images, val_masks, mean, std)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=25)
    test_loader = DataLoader(ShapesDataset(test_images, test_masks, mean, std), batch_size=25)

    model = UNet(NUM_CLASSES)
    weights = class_weights(train_masks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    total_iters = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda it: (1 - it / total_iters) ** 0.9)

    best_miou, best_state = 0.0, None
    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for image, target in train_loader:
            logits = model(image)
            ce = F.cross_entropy(logits, target, weight=weights, ignore_index=IGNORE)
            loss = ce + dice_loss(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item()
        miou, _ = evaluate(model, val_loader)
        print(f"epoch {epoch + 1:2d} loss {running / len(train_loader):.4f} val mIoU {miou:.4f}", flush=True)
        if miou > best_miou:
            best_miou, best_state = miou, copy.deepcopy(model.state_dict())

    model.load_state_dict(best_state)
    test_miou, per_class = evaluate(model, test_loader)
    print("test IoU " + " ".join(f"{n}={v:.3f}" for n, v in zip(CLASSES, per_class)))
    print(f"best val mIoU {best_miou:.4f} test mIoU {test_miou:.4f}")


if __name__ == "__main__":
    main()
