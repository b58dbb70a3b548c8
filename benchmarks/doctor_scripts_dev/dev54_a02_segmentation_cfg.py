"""Small segmentation experiment. One config dict, one runner; edit CFG and rerun."""

import random
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CFG = {
    "seed": 7,
    "data": {"num_classes": 4, "train": 600, "val": 160, "batch_size": 12, "ignore_index": 255},
    "model": {"width": 16},
    "loss": {"dice_weight": 0.5, "max_weight": 10.0},
    "optim": {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "accum": 2, "clip": 5.0},
    "train": {"epochs": 12, "power": 0.9, "amp": True},
}


def to_namespace(d):
    return SimpleNamespace(**{k: to_namespace(v) if isinstance(v, dict) else v for k, v in d.items()})


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class SegDataset(Dataset):
    def __init__(self, train, count, augment=False):
        shapes = Shapes(train=train, count=count)
        self.images = [(image - 0.5) / 0.2 for image in shapes.images]
        self.masks = shapes.masks
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, mask = self.images[i], self.masks[i]
        if self.augment:
            if random.random() < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if random.random() < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return image, mask


def block(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, num_classes, width):
        super().__init__()
        self.enc1, self.enc2, self.mid = block(3, width), block(width, 2 * width), block(2 * width, 2 * width)
        self.dec2, self.dec1 = block(4 * width, width), block(2 * width, width)
        self.out = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        m = self.mid(F.max_pool2d(e2, 2))
        d2 = self.dec2(torch.cat([F.interpolate(m, scale_factor=2.0), e2], 1))
        d1 = self.dec1(torch.cat([F.interpolate(d2, scale_factor=2.0), e1], 1))
        return self.out(d1)


class SegLoss(nn.Module):
    """Cross entropy with median-frequency weights, and Dice of the foreground."""

    def __init__(self, weight, dice_weight, ignore_index):
        super().__init__()
        self.register_buffer("weight", weight)
        self.dice_weight, self.ignore_index = dice_weight, ignore_index

    def dice(self, logits, target):
        num_classes = logits.shape[1]
        valid = (target != self.ignore_index).unsqueeze(1).float()
        onehot = F.one_hot(target.clamp(max=num_classes - 1), num_classes).permute(0, 3, 1, 2).float() * valid
        prob = logits.softmax(1) * valid
        inter = (prob * onehot).sum((0, 2, 3))
        total = prob.sum((0, 2, 3)) + onehot.sum((0, 2, 3))
        score = (2 * inter + 1) / (total + 1)
        return 1 - score[1:].mean()

    def forward(self, logits, target):
        ce = F.cross_entropy(logits, target, weight=self.weight, ignore_index=self.ignore_index)
        return ce + self.dice_weight * self.dice(logits, target)


def class_weights(masks, num_classes, max_weight):
    freq = torch.bincount(torch.stack(list(masks)).flatten(), minlength=num_classes).float()
    freq = freq / freq.sum()
    return (freq.median() / freq).clamp(max=max_weight)


@torch.no_grad()
def evaluate(model, loader, num_classes):
    model.eval()
    confusion = torch.zeros(num_classes, num_classes)
    for image, mask in loader:
        pred = model(image).argmax(1)
        index = mask.flatten() * num_classes + pred.flatten()
        confusion += torch.bincount(index, minlength=num_classes**2).view(num_classes, num_classes)
    inter = confusion.diag()
    iou = inter / (confusion.sum(0) + confusion.sum(1) - inter).clamp(min=1)
    return iou.mean().item(), (inter.sum() / confusion.sum()).item()


def main():
    cfg = to_namespace(CFG)
    set_seed(cfg.seed)
    train_set = SegDataset(True, cfg.data.train, augment=True)
    val_set = SegDataset(False, cfg.data.val)
    train_loader = DataLoader(train_set, cfg.data.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, 40)

    model = UNet(cfg.data.num_classes, cfg.model.width)
    weight = class_weights(train_set.masks, cfg.data.num_classes, cfg.loss.max_weight)
    criterion = SegLoss(weight, cfg.loss.dice_weight, cfg.data.ignore_index)
    opt = torch.optim.SGD(
        model.parameters(), lr=cfg.optim.lr, momentum=cfg.optim.momentum, weight_decay=cfg.optim.weight_decay
    )
    updates = cfg.train.epochs * (len(train_loader) // cfg.optim.accum)
    sched = torch.optim.lr_scheduler.PolynomialLR(opt, total_iters=updates, power=cfg.train.power)

    best, best_state = 0.0, None
    for epoch in range(cfg.train.epochs):
        model.train()
        running = 0.0
        opt.zero_grad()
        for step, (image, mask) in enumerate(train_loader, 1):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cfg.train.amp):
                logits = model(image)
            loss = criterion(logits.float(), mask)
            (loss / cfg.optim.accum).backward()
            running += loss.item()
            if step % cfg.optim.accum == 0:
                nn.utils.clip_grad_norm_(model.parameters(), cfg.optim.clip)
                opt.step()
                opt.zero_grad()
                sched.step()
        miou, acc = evaluate(model, val_loader, cfg.data.num_classes)
        if miou > best:
            best, best_state = miou, {k: v.clone() for k, v in model.state_dict().items()}
        print(f"[{epoch:02d}] loss {running / len(train_loader):.4f} mIoU {miou:.4f} pixel acc {acc:.4f}")

    model.load_state_dict(best_state)
    print("best mIoU %.4f" % evaluate(model, val_loader, cfg.data.num_classes)[0])


if __name__ == "__main__":
    main()
