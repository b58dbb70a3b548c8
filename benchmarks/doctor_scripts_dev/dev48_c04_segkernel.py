# # Shape segmentation: U-Net, fold 0, CE + soft Dice
# Version 7: added joint flips, best fold weights are restored before scoring

# %% [code]
import os
import random
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, Dataset

import toydata

# %% [code]
SEED = 2021
N_FOLDS = 5
EPOCHS = 11
BATCH = 32
LR = 3e-3
N_CLASSES = 4  # background, square, disc, cross


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(SEED)

# %% [code]
full = toydata.Shapes(train=True)
images = torch.stack(full.images)
masks = torch.stack(full.masks)
kind = np.array(full.targets)
print(images.shape, masks.shape, torch.bincount(masks.flatten()) / masks.numel())

folds = list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=SEED).split(np.zeros(len(kind)), kind))
trn_idx, val_idx = folds[0]


# %% [code]
class SegDataset(Dataset):
    def __init__(self, idx, mode):
        self.idx, self.mode = idx, mode

    def __len__(self):
        return len(self.idx)

    def __getitem__(self, i):
        img, msk = images[self.idx[i]], masks[self.idx[i]]
        if self.mode == "train":
            if random.random() < 0.5:
                img, msk = img.flip(2), msk.flip(1)
            if random.random() < 0.5:
                img, msk = img.flip(1), msk.flip(0)
        return (img - 0.5) / 0.2, msk


trn_loader = DataLoader(SegDataset(trn_idx, "train"), BATCH, shuffle=True, drop_last=True)
val_loader = DataLoader(SegDataset(val_idx, "valid"), BATCH * 2)


# %% [code]
def double(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(True),
    )


class UNet(nn.Module):
    def __init__(self, w=16):
        super().__init__()
        self.d1, self.d2, self.mid = double(3, w), double(w, 2 * w), double(2 * w, 3 * w)
        self.u2, self.u1 = double(5 * w, 2 * w), double(3 * w, w)
        self.out = nn.Conv2d(w, N_CLASSES, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        c = self.mid(F.max_pool2d(b, 2))
        b = self.u2(torch.cat([F.interpolate(c, scale_factor=2.0, mode="nearest"), b], 1))
        a = self.u1(torch.cat([F.interpolate(b, scale_factor=2.0, mode="nearest"), a], 1))
        return self.out(a)


def dice_loss(logits, target, eps=1.0):
    prob = logits.softmax(1)[:, 1:]
    hot = F.one_hot(target, N_CLASSES).permute(0, 3, 1, 2)[:, 1:].float()
    overlap = (prob * hot).sum((0, 2, 3))
    return 1 - ((2 * overlap + eps) / (prob.sum((0, 2, 3)) + hot.sum((0, 2, 3)) + eps)).mean()


# %% [code]
@torch.no_grad()
def score(net, loader):
    """IoU of the three kinds, from one confusion matrix over the whole fold."""
    net.eval()
    confusion = torch.zeros(N_CLASSES * N_CLASSES, dtype=torch.long)
    for x, y in loader:
        logits = net(x)
        pred = logits.argmax(1)
        confusion += torch.bincount((y * N_CLASSES + pred).flatten(), minlength=N_CLASSES ** 2)
    confusion = confusion.view(N_CLASSES, N_CLASSES).double()
    hit = confusion.diag()
    return (hit / (confusion.sum(0) + confusion.sum(1) - hit).clamp(min=1))[1:]


# %% [code]
net = UNet()
opt = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=1e-3)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=EPOCHS * len(trn_loader), eta_min=1e-5)
workdir = tempfile.mkdtemp()
weights = os.path.join(workdir, "fold0.pth")
best = -1.0

for epoch in range(EPOCHS):
    net.train()
    total = 0.0
    for x, y in trn_loader:
        logits = net(x)
        loss = F.cross_entropy(logits, y) + dice_loss(logits, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        total += loss.item()
    iou = score(net, val_loader)
    print(f"ep {epoch:02d} loss {total / len(trn_loader):.4f} mIoU {iou.mean():.4f}")
    if iou.mean() > best:
        best = iou.mean().item()
        torch.save(net.state_dict(), weights)

# %% [code]
net.load_state_dict(torch.load(weights))
print("CV (fold 0):", {n: round(v, 4) for n, v in zip(["square", "disc", "cross"], score(net, val_loader).tolist())})
