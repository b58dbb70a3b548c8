"""U-Net on synthetic scenes (discs, triangles, boxes) with VOC style colour masks."""
import argparse
import copy
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

CLASSES = ["background", "disc", "triangle", "box"]
PALETTE = {"background": (0, 0, 0), "disc": (128, 0, 0), "triangle": (0, 128, 0), "box": (0, 0, 128)}
VOID_COLOR = (224, 224, 192)
IGNORE = 255


def draw_scene(rng, size):
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    image = np.ones((size, size, 3)) * rng.uniform(0.2, 0.8, 3)
    image += rng.uniform(-0.2, 0.2) * (xx / size)[..., None]
    mask = np.zeros((size, size, 3), np.uint8)
    names = [str(rng.choice(["disc", "box"])) for _ in range(rng.integers(1, 3))]
    has_rare = rng.random() < 0.25
    names += ["triangle"] * int(has_rare)
    for name in names:
        cx, cy = rng.uniform(6, size - 6, 2)
        r, a = rng.uniform(4.5, 8), rng.uniform(0, 2 * np.pi)
        u = np.cos(a) * (xx - cx) + np.sin(a) * (yy - cy)
        v = -np.sin(a) * (xx - cx) + np.cos(a) * (yy - cy)
        if name == "disc":
            dist = np.sqrt(u ** 2 + v ** 2) - r
        elif name == "box":
            dist = np.maximum(np.abs(u), np.abs(v)) - 0.85 * r
        else:
            dist = np.max([u * np.cos(t) + v * np.sin(t) for t in (0, 2 * np.pi / 3, 4 * np.pi / 3)], axis=0) - 0.6 * r
        color = rng.uniform(0, 1, 3) * 0.7 + np.array(PALETTE[name]) / 128 * 0.3
        image[dist < 0] = color
        mask[dist < 0] = PALETTE[name]
        mask[np.abs(dist) < 0.4] = VOID_COLOR
    image += rng.normal(0, 0.06, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8), mask, has_rare


def encode_mask(mask, classes):
    """(H, W, 3) colour mask -> (H, W) class indices, 255 for void."""
    label = np.full(mask.shape[:2], IGNORE, np.int64)
    for index, name in enumerate(classes):
        label[(mask == PALETTE[name]).all(-1)] = index
    return label


class ShapesDataset(Dataset):
    def __init__(self, n, size, seed, classes, mean=None, std=None, augment=False):
        rng = np.random.default_rng(seed)
        scenes = [draw_scene(rng, size) for _ in range(n)]
        self.images = np.stack([s[0] for s in scenes])
        self.labels = np.stack([encode_mask(s[1], classes) for s in scenes])
        self.rare = torch.tensor([int(s[2]) for s in scenes])
        pixels = self.images.reshape(-1, 3) / 255.0
        self.mean = pixels.mean(0) if mean is None else mean
        self.std = pixels.std(0) if std is None else std
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = (self.images[i] / 255.0 - self.mean) / self.std
        image = torch.from_numpy(image.transpose(2, 0, 1)).float()
        label = torch.from_numpy(self.labels[i])
        if self.augment:
            k = random.randint(0, 3)
            image = torch.rot90(image, k, (1, 2))
            label = torch.rot90(label, k, (0, 1))
            if random.random() < 0.5:
                image, label = image.flip(2), label.flip(1)
        return image.contiguous(), label.contiguous()


class DoubleConv(nn.Sequential):
    def __init__(self, c_in, c_out):
        layers = []
        for c in (c_in, c_out):
            layers.append(nn.Conv2d(c, c_out, 3, padding=1, bias=False))
            layers.append(nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.05))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class UNet(nn.Module):
    def __init__(self, num_classes, widths=(12, 24, 48)):
        super().__init__()
        self.stem = DoubleConv(3, widths[0])
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in zip(widths[:-1], widths[1:]))
        self.up = nn.ModuleList(DoubleConv(a + b, a) for a, b in zip(widths[-2::-1], widths[:0:-1]))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x):
        skips = [self.stem(x)]
        for block in self.down:
            skips.append(block(F.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for block in self.up:
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([skip, x], dim=1))
        return self.head(x)


class EMA:
    def __init__(self, model, decay=0.99):
        self.decay = decay
        self.updates = 0
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for k, v in model.state_dict().items():
            if v.is_floating_point():
                self.shadow[k].mul_(d).add_(v, alpha=1 - d)
            else:
                self.shadow[k].copy_(v)


def fast_hist(pred, label, n):
    k = (label >= 0) & (label < n)
    return torch.bincount(n * label[k] + pred[k], minlength=n ** 2).reshape(n, n)


@torch.no_grad()
def evaluate(model, loader, n):
    model.eval()
    hist = torch.zeros(n, n, dtype=torch.long)
    for image, label in loader:
        pred = model(image).argmax(1)
        hist += fast_hist(pred.flatten(), label.flatten(), n)
    iou = hist.diag().double() / (hist.sum(0) + hist.sum(1) - hist.diag()).clamp(min=1)
    return iou, (hist.trace() / hist.sum()).item()


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--epochs", type=int, default=14)
    p.add_argument("--batch-size", type=int, default=16)
    p.add_argument("--lr", type=float, default=6e-3)
    p.add_argument("--size", type=int, default=32)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    train_set = ShapesDataset(512, args.size, 1, CLASSES, augment=True)
    stats = dict(mean=train_set.mean, std=train_set.std)
    val_set = ShapesDataset(128, args.size, 2, CLASSES, **stats)
    test_set = ShapesDataset(192, args.size, 3, CLASSES, **stats)

    # scenes with a triangle are rare, draw them about as often as the others
    group_weights = 1.0 / torch.bincount(train_set.rare, minlength=2).double()
    sampler = WeightedRandomSampler(group_weights[train_set.rare], num_samples=len(train_set), replacement=True)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, sampler=sampler, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=64)
    test_loader = DataLoader(test_set, batch_size=64)

    model = UNet(len(CLASSES))
    eval_model = copy.deepcopy(model)
    ema = EMA(model)
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, total_steps=args.epochs * len(train_loader), pct_start=0.2)

    best_miou, best_state = -1.0, None
    for epoch in range(1, args.epochs + 1):
        model.train()
        total = 0.0
        for image, label in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(image), label)
            loss.backward()
            optimizer.step()
            scheduler.step()
            ema.update(model)
            total += loss.item()
        eval_model.load_state_dict(ema.shadow)
        iou, acc = evaluate(eval_model, val_loader, len(CLASSES))
        miou = iou.mean().item()
        print(f"epoch {epoch:2d}  loss {total / len(train_loader):.4f}  val mIoU {miou:.4f}  pixel acc {acc:.4f}")
        if miou > best_miou:
            best_miou, best_state = miou, copy.deepcopy(eval_model.state_dict())

    eval_model.load_state_dict(best_state)
    iou, acc = evaluate(eval_model, test_loader, len(CLASSES))
    print("test  " + "  ".join(f"{c} {v:.3f}" for c, v in zip(CLASSES, iou.tolist())))
    print(f"test mIoU {iou.mean().item():.4f}  pixel acc {acc:.4f}")


if __name__ == "__main__":
    main()
