#!/usr/bin/env python
# coding: utf-8

# # U-Net on synthetic shapes
# Background, discs, squares and triangles in noise.

# In[1]:

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

SEED, SIZE, EPOCHS, BATCH, LR = 7, 28, 14, 16, 1e-2
CLASSES = ['background', 'disc', 'square', 'triangle']
torch.manual_seed(SEED)
np.random.seed(SEED)


# In[2]:

def draw_scene(rng, size=SIZE):
    yy, xx = np.mgrid[:size, :size]
    mask = np.zeros((size, size), dtype=np.int64)
    image = rng.uniform(0.2, 0.5) + 0.15 * (xx / size - 0.5) * rng.uniform(-1, 1)
    for _ in range(rng.integers(1, 3)):
        kind, r = rng.integers(1, 4), rng.integers(4, 8)
        cy, cx = rng.integers(r, size - r, 2)
        dy, dx = yy - cy, xx - cx
        if kind == 1:
            inside = dy ** 2 + dx ** 2 <= r ** 2
        elif kind == 2:
            inside = (abs(dy) <= r * 0.85) & (abs(dx) <= r * 0.85)
        else:
            inside = (dy <= r) & (2 * abs(dx) <= dy + r)
        mask[inside] = kind
        image = np.where(inside, rng.uniform(0.55, 0.9), image)
    image = image + rng.normal(0, 0.08, image.shape)
    return image.astype(np.float32)[None], mask


def make_scenes(n, seed):
    rng = np.random.default_rng(seed)
    images, masks = zip(*(draw_scene(rng) for _ in range(n)))
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks))


class ShapesDataset(Dataset):
    def __init__(self, images, masks, augment=False):
        self.images, self.masks, self.augment = images, masks, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, mask = self.images[i], self.masks[i]
        if self.augment and torch.rand(1) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask


train_images, train_masks = make_scenes(320, seed=1)
mean, std = train_images.mean(), train_images.std()
train_ds = ShapesDataset((train_images - mean) / std, train_masks, augment=True)
val_images, val_masks = make_scenes(100, seed=2)
val_ds = ShapesDataset((val_images - mean) / std, val_masks)
test_images, test_masks = make_scenes(150, seed=3)
test_ds = ShapesDataset((test_images - mean) / std, test_masks)

train_dl = DataLoader(train_ds, batch_size=BATCH, shuffle=True)
val_dl = DataLoader(val_ds, batch_size=50)
test_dl = DataLoader(test_ds, batch_size=50)


# In[3]:

def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, n_classes, width=12):
        super().__init__()
        self.down1 = double_conv(1, width)
        self.down2 = double_conv(width, width * 2)
        self.bottom = double_conv(width * 2, width * 4)
        self.up2 = double_conv(width * 6, width * 2)
        self.up1 = double_conv(width * 3, width)
        self.out = nn.Conv2d(width, n_classes, 1)

    def forward(self, x):
        x1 = self.down1(x)
        x2 = self.down2(F.max_pool2d(x1, 2))
        x3 = self.bottom(F.max_pool2d(x2, 2))
        x = self.up2(torch.cat([F.interpolate(x3, scale_factor=2), x2], dim=1))
        x = self.up1(torch.cat([F.interpolate(x, scale_factor=2), x1], dim=1))
        return self.out(x)


# In[4]:

class MeanIoU:
    def __init__(self, n_classes):
        self.n = n_classes
        self.inter = torch.zeros(n_classes)
        self.union = torch.zeros(n_classes)

    def update(self, logits, masks):
        preds = logits.argmax(dim=1)
        for c in range(self.n):
            p, t = preds == c, masks == c
            inter = (p & t).sum()
            self.inter[c] += inter
            self.union[c] += p.sum() + t.sum() - inter

    def compute(self):
        return self.inter / self.union.clamp(min=1)


def evaluate(model, loader):
    model.eval()
    metric, total = MeanIoU(len(CLASSES)), 0.
    with torch.no_grad():
        for images, masks in loader:
            logits = model(images)
            total += F.cross_entropy(logits, masks).item() * len(images)
            metric.update(logits, masks)
    return total / len(loader.dataset), metric.compute()


# In[5]:

model = UNet(len(CLASSES))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS * len(train_dl))

history, best_iou, best_weights = [], 0., None
for epoch in range(EPOCHS):
    model.train()
    running = 0.
    for images, masks in train_dl:
        optimizer.zero_grad()
        loss = criterion(model(images), masks)
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item() * len(images)
    val_loss, iou = evaluate(model, val_dl)
    history.append((running / len(train_ds), val_loss, iou.mean().item()))
    if iou.mean() > best_iou:
        best_iou = iou.mean()
        best_weights = copy.deepcopy(model.state_dict())
    print('epoch %2d  train %.4f  val %.4f  mIoU %.4f' % (epoch, *history[-1]))


# In[6]:

model.load_state_dict(best_weights)
test_loss, iou = evaluate(model, test_dl)
print('test loss %.4f  mIoU %.4f' % (test_loss, iou.mean()))
for name, value in zip(CLASSES, iou):
    print('  %-10s %.4f' % (name, value))
