"""Segmentation of shapes, by iterations: background, square, disc, cross."""

import itertools
import random
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

cfg = SimpleNamespace(
    seed=9,
    classes=("background", "square", "disc", "cross"),
    data=dict(samples_per_gpu=20, train=700, val=160, flip_prob=0.5),
    model=dict(base=16),
    optimizer=dict(lr=3e-3, weight_decay=1e-4),
    lr_config=dict(policy="poly", power=0.9),
    runner=dict(max_iters=330),
    loss=dict(ce=1.0, dice=1.0, ignore_index=255),
    evaluation=dict(interval=110),
)


def to_tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array)).float() / 255


class ShapeSegDataset(Dataset):
    def __init__(self, train, count, flip_prob=0.0):
        source = Shapes(train=train, count=count)
        self.imgs = [np.uint8(255 * img.permute(1, 2, 0).numpy()) for img in source.images]
        self.segs = [np.uint8(m.numpy()) for m in source.masks]
        self.flip_prob = flip_prob

    def __len__(self):
        return len(self.imgs)

    def __getitem__(self, idx):
        img, seg = self.imgs[idx], self.segs[idx]
        if random.random() < self.flip_prob:
            img = img[:, ::-1]
            seg = seg[:, ::-1]
        img = (to_tensor(img).permute(2, 0, 1) - 0.5) / 0.2
        seg = torch.from_numpy(seg.astype(np.int64))
        return dict(img=img, gt_semantic_seg=seg)


class DoubleConv(nn.Sequential):
    def __init__(self, i, o):
        super().__init__(
            nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(True),
            nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(True),
        )


class UNet(nn.Module):
    def __init__(self, num_classes, base):
        super().__init__()
        self.enc1, self.enc2 = DoubleConv(3, base), DoubleConv(base, 2 * base)
        self.mid = DoubleConv(2 * base, 2 * base)
        self.up2 = nn.ConvTranspose2d(2 * base, 2 * base, 2, stride=2)
        self.dec2 = DoubleConv(4 * base, base)
        self.up1 = nn.ConvTranspose2d(base, base, 2, stride=2)
        self.dec1 = DoubleConv(2 * base, base)
        self.out_conv = nn.Conv2d(base, num_classes, 1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        m = self.mid(F.max_pool2d(e2, 2))
        d2 = self.dec2(torch.cat([self.up2(m), e2], dim=1))
        d1 = self.dec1(torch.cat([self.up1(d2), e1], dim=1))
        return self.out_conv(d1)


def dice_loss(logits, target, ignore_index, eps=1.0):
    valid = (target != ignore_index).unsqueeze(1)
    probs = logits.softmax(dim=1) * valid
    onehot = F.one_hot(target.clamp(max=logits.shape[1] - 1), logits.shape[1]).permute(0, 3, 1, 2) * valid
    inter = (probs * onehot).sum(dim=(0, 2, 3))
    union = probs.sum(dim=(0, 2, 3)) + onehot.sum(dim=(0, 2, 3))
    dice = (2 * inter + eps) / (union + eps)
    return 1 - dice.mean()


def seg_loss(logits, target):
    skip = cfg.loss["ignore_index"]
    ce = F.cross_entropy(logits, target, ignore_index=skip)
    return cfg.loss["ce"] * ce + cfg.loss["dice"] * dice_loss(logits, target, skip)


@torch.no_grad()
def evaluate(model, loader):
    k = len(cfg.classes)
    model.eval()
    hist = np.zeros((k, k), dtype=np.int64)
    for batch in loader:
        logits = model(batch["img"])
        pred = logits.argmax(dim=1)
        pair = batch["gt_semantic_seg"] * k + pred
        hist += np.bincount(pair.flatten().numpy(), minlength=k * k).reshape(k, k)
    model.train()
    iou = np.diag(hist) / np.maximum(hist.sum(0) + hist.sum(1) - np.diag(hist), 1)
    return iou, np.diag(hist).sum() / hist.sum()


def main():
    random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)
    train_set = ShapeSegDataset(True, cfg.data["train"], cfg.data["flip_prob"])
    val_set = ShapeSegDataset(False, cfg.data["val"])
    train_loader = DataLoader(train_set, cfg.data["samples_per_gpu"], shuffle=True)
    val_loader = DataLoader(val_set, 80)

    model = UNet(len(cfg.classes), **cfg.model)
    optimizer = torch.optim.AdamW(model.parameters(), **cfg.optimizer)
    max_iters = cfg.runner["max_iters"]
    poly = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda it: (1 - it / max_iters) ** cfg.lr_config["power"])

    batches = itertools.chain.from_iterable(itertools.repeat(train_loader))
    for it, batch in enumerate(itertools.islice(batches, max_iters), start=1):
        loss = seg_loss(model(batch["img"]), batch["gt_semantic_seg"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        poly.step()
        if it % 55 == 0:
            print(f"Iter [{it}/{max_iters}]  lr: {poly.get_last_lr()[0]:.2e}  loss: {loss.item():.4f}")
        if it % cfg.evaluation["interval"] == 0:
            iou, acc = evaluate(model, val_loader)
            table = "  ".join(f"{n} {v:.3f}" for n, v in zip(cfg.classes, iou))
            print(f"{table}\naAcc: {acc:.4f}  mIoU: {iou.mean():.4f}")


if __name__ == "__main__":
    main()
