# %% [markdown]
# # Shape masks: tiny U-Net, CE + Dice, flips at test time
# %%
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

import toydata


class CFG:
    seed = 2023
    size = 24
    n_train, n_valid = 600, 160
    n_classes = 4
    bs = 30
    epochs = 12
    lr = 3e-3
    dice_weight = 0.5


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


# %%
class MaskDataset(Dataset):
    def __init__(self, shapes, augment):
        self.images = torch.stack(shapes.images)
        self.masks = torch.stack(shapes.masks)
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, mask = (self.images[i] - 0.5) / 0.2, self.masks[i]
        if self.augment:
            if random.random() < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if random.random() < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return image, mask


# %%
def block(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(inplace=True),
    )


class TinyUNet(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.down1, self.down2, self.bottom = block(3, 12), block(12, 24), block(24, 48)
        self.up2, self.up1 = block(48 + 24, 24), block(24 + 12, 12)
        self.head = nn.Conv2d(12, n_classes, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        x = self.bottom(F.max_pool2d(d2, 2))
        x = self.up2(torch.cat([F.interpolate(x, scale_factor=2), d2], dim=1))
        x = self.up1(torch.cat([F.interpolate(x, scale_factor=2), d1], dim=1))
        return self.head(x)


def criterion(logits, masks):
    probs = logits.softmax(dim=1)
    onehot = F.one_hot(masks, CFG.n_classes).permute(0, 3, 1, 2).float()
    overlap = (probs * onehot).sum(dim=(0, 2, 3))
    total = probs.sum(dim=(0, 2, 3)) + onehot.sum(dim=(0, 2, 3))
    dice = (2 * overlap + 1) / (total + 1)
    ce = F.cross_entropy(logits, masks)
    return ce + CFG.dice_weight * (1 - dice.mean())


# %%
@torch.no_grad()
def predict_tta(model, images):
    probs = model(images).softmax(1)
    probs = probs + model(images.flip(-1)).softmax(1).flip(-1)
    probs = probs + model(images.flip(-2)).softmax(1).flip(-2)
    return probs / 3


def validate(model, loader):
    model.eval()
    confusion = torch.zeros(CFG.n_classes, CFG.n_classes)
    for images, masks in loader:
        pred = predict_tta(model, images).argmax(1)
        pairs = masks.flatten() * CFG.n_classes + pred.flatten()
        confusion += torch.bincount(pairs, minlength=CFG.n_classes**2).view(CFG.n_classes, CFG.n_classes)
    hit = confusion.diag()
    return (hit / (confusion.sum(0) + confusion.sum(1) - hit).clamp(min=1)).mean().item()


# %%
seed_everything(CFG.seed)
train_ds = MaskDataset(toydata.Shapes(train=True, count=CFG.n_train, size=CFG.size), augment=True)
valid_ds = MaskDataset(toydata.Shapes(train=False, count=CFG.n_valid, size=CFG.size), augment=False)
train_dl = DataLoader(train_ds, batch_size=CFG.bs, shuffle=True)
valid_dl = DataLoader(valid_ds, batch_size=80)

model = TinyUNet(CFG.n_classes)
optimizer = torch.optim.Adam(model.parameters(), lr=CFG.lr)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=CFG.epochs, eta_min=1e-4)

# %%
best_iou, best_state = 0.0, None
for epoch in range(CFG.epochs):
    model.train()
    losses = []
    for images, masks in train_dl:
        optimizer.zero_grad()
        loss = criterion(model(images), masks)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    scheduler.step()
    iou = validate(model, valid_dl)
    print(f"epoch {epoch:2d}  loss {torch.stack(losses).mean():.4f}  valid mIoU {iou:.4f}")
    if iou > best_iou:
        best_iou = iou
        best_state = {name: value.clone() for name, value in model.state_dict().items()}

model.load_state_dict(best_state)
print(f"best mIoU {best_iou:.4f}")
