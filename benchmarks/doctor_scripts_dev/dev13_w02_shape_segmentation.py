"""Small U-Net on colored shapes: 4 classes (ground, square, disc, cross), reports Dice and IoU per class."""
import copy
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CONFIG = {
    "crop": 24,
    "classes": ["ground", "square", "disc", "cross"],
    "batch": 30,
    "epochs": 7,
    "lr": 4e-3,
    "dice_weight": 0.5,
    "mean": [0.49, 0.45, 0.49],
    "std": [0.15, 0.13, 0.15],
}


class SegmentationSet(Dataset):
    """HWC uint8 arrays with an index mask each, as they come out of the annotation tool."""

    def __init__(self, split, train_tf):
        base = Shapes(train=(split == "train"), size=CONFIG["crop"])
        self.images = [(im.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for im in base.images]
        self.masks = [m.numpy().astype(np.uint8) for m in base.masks]
        self.train_tf = train_tf

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        img, mask = self.images[idx], self.masks[idx]
        if self.train_tf and np.random.rand() < 0.5:
            img, mask = img[:, ::-1], mask[:, ::-1]
        if self.train_tf and np.random.rand() < 0.5:
            img, mask = img[::-1], mask[::-1]
        img = torch.from_numpy(img.copy()).float().div(255)
        img = (img - torch.tensor(CONFIG["mean"])) / torch.tensor(CONFIG["std"])
        img = img.permute(2, 0, 1)
        return {"image": img, "mask": torch.from_numpy(mask.copy()).long()}


def conv_block(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
    )


class TinyUNet(nn.Module):
    def __init__(self, n_classes, base=8):
        super().__init__()
        self.enc1, self.enc2, self.mid = conv_block(3, base), conv_block(base, 2 * base), conv_block(2 * base, 4 * base)
        self.dec2, self.dec1 = conv_block(6 * base, 2 * base), conv_block(3 * base, base)
        self.out = nn.Conv2d(base, n_classes, 1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        m = self.mid(F.max_pool2d(e2, 2))
        d2 = self.dec2(torch.cat([F.interpolate(m, scale_factor=2), e2], 1))
        d1 = self.dec1(torch.cat([F.interpolate(d2, scale_factor=2), e1], 1))
        return self.out(d1)


def soft_dice_loss(logits, mask, eps=1.0):
    probs = logits.softmax(1)
    onehot = F.one_hot(mask, logits.shape[1]).permute(0, 3, 1, 2).float()
    inter = (probs * onehot).sum((0, 2, 3))
    denom = probs.sum((0, 2, 3)) + onehot.sum((0, 2, 3))
    return 1 - ((2 * inter + eps) / (denom + eps)).mean()


class Trainer:
    def __init__(self, net, train_loader, val_loader):
        self.net, self.train_loader, self.val_loader = net, train_loader, val_loader
        self.ce = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(net.parameters(), lr=CONFIG["lr"])
        total = CONFIG["epochs"] * len(train_loader)
        self.scheduler = torch.optim.lr_scheduler.PolynomialLR(self.optimizer, total_iters=total, power=0.9)
        self.best_loss, self.best_state = None, None

    def criterion(self, logits, mask):
        return self.ce(logits, mask) + CONFIG["dice_weight"] * soft_dice_loss(logits, mask)

    def train_epoch(self):
        self.net.train()
        losses = []
        for sample in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.net(sample["image"]), sample["mask"])
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)

    @torch.no_grad()
    def validate(self):
        self.net.eval()
        k = len(CONFIG["classes"])
        confusion = torch.zeros(k, k, dtype=torch.long)
        val_loss, n = 0.0, 0
        for sample in self.val_loader:
            logits = self.net(sample["image"])
            val_loss += self.criterion(logits, sample["mask"]).item() * len(logits)
            n += len(logits)
            pred = logits.argmax(1)
            confusion += torch.bincount((sample["mask"] * k + pred).flatten(), minlength=k * k).view(k, k)
        tp = confusion.diag().float()
        iou = tp / (confusion.sum(0) + confusion.sum(1) - tp).clamp(min=1)
        dice = 2 * tp / (confusion.sum(0) + confusion.sum(1)).clamp(min=1)
        return val_loss / n, iou, dice

    def fit(self):
        for epoch in range(1, CONFIG["epochs"] + 1):
            start = time.time()
            train_loss = self.train_epoch()
            val_loss, iou, dice = self.validate()
            if self.best_loss is None or val_loss < self.best_loss:
                self.best_loss = val_loss
                self.best_state = copy.deepcopy(self.net.state_dict())
            print(f"[{epoch}/{CONFIG['epochs']}] train {train_loss:.3f} val {val_loss:.3f} "
                  f"mIoU {iou.mean():.3f} ({time.time() - start:.1f}s)")
        self.net.load_state_dict(self.best_state)


torch.manual_seed(3)
np.random.seed(3)
trainer = Trainer(
    TinyUNet(len(CONFIG["classes"])),
    DataLoader(SegmentationSet("train", train_tf=True), CONFIG["batch"], shuffle=True, drop_last=True),
    DataLoader(SegmentationSet("val", train_tf=False), 60),
)
trainer.fit()
_, iou, dice = trainer.validate()
for name, i, d in zip(CONFIG["classes"], iou.tolist(), dice.tolist()):
    print(f"{name:8s} IoU {i:.3f}  Dice {d:.3f}")
print(f"final mIoU {iou.mean():.3f}")
