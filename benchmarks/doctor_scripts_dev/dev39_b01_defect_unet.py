# U-Net, one sigmoid mask per kind of defect (square, disc, cross). Fork of a fork of a starter kernel.
import copy
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class CFG:
    seed = 2019
    size = 16
    classes = 3
    width = 8
    epochs = 10
    train_bs = 30
    valid_bs = 60
    lr = 0.1
    momentum = 0.9
    weight_decay = 1e-4
    device = "cuda" if torch.cuda.is_available() else "cpu"


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class DefectDataset(Dataset):
    def __init__(self, base, phase):
        self.images = base.images
        self.masks = base.masks
        self.phase = phase

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = (self.images[idx] - 0.5) / 0.25
        mask = torch.stack([self.masks[idx] == k for k in range(1, CFG.classes + 1)]).float()
        if self.phase == "train":
            image, mask = self.augment(image, mask)
        return image, mask

    def augment(self, image, mask):
        if random.random() < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        if random.random() < 0.5:
            image, mask = image.flip(-2), mask.flip(-2)
        image = image * random.uniform(0.9, 1.1)
        return image, mask


def double_conv(inp, out):
    return nn.Sequential(
        nn.Conv2d(inp, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True),
        nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        self.down1 = double_conv(3, width)
        self.down2 = double_conv(width, width * 2)
        self.bridge = double_conv(width * 2, width * 4)
        self.up2 = double_conv(width * 4 + width * 2, width * 2)
        self.up1 = double_conv(width * 2 + width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        s1 = self.down1(x)
        s2 = self.down2(F.max_pool2d(s1, 2))
        x = self.bridge(F.max_pool2d(s2, 2))
        x = self.up2(torch.cat([F.interpolate(x, scale_factor=2), s2], dim=1))
        x = self.up1(torch.cat([F.interpolate(x, scale_factor=2), s1], dim=1))
        return self.head(x)


class BCEDiceLoss(nn.Module):
    def __init__(self, smooth=1.0):
        super().__init__()
        self.bce = nn.BCEWithLogitsLoss()
        self.smooth = smooth

    def forward(self, logits, target):
        probs = torch.sigmoid(logits)
        inter = (probs * target).sum(dim=(0, 2, 3))
        total = probs.sum(dim=(0, 2, 3)) + target.sum(dim=(0, 2, 3))
        dice = (2 * inter + self.smooth) / (total + self.smooth)
        return self.bce(logits, target) + 1 - dice.mean()


class Trainer:
    def __init__(self, net):
        self.net = net.to(CFG.device)
        self.loaders = {
            "train": DataLoader(DefectDataset(Shapes(train=True, size=CFG.size), "train"), CFG.train_bs, shuffle=True),
            "val": DataLoader(DefectDataset(Shapes(train=False, size=CFG.size), "val"), CFG.valid_bs),
        }
        self.criterion = BCEDiceLoss()
        self.optimizer = torch.optim.SGD(net.parameters(), lr=CFG.lr, momentum=CFG.momentum,
                                         weight_decay=CFG.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.PolynomialLR(
            self.optimizer, total_iters=CFG.epochs * len(self.loaders["train"]), power=0.9)
        self.scaler = torch.amp.GradScaler(CFG.device)
        self.best_dice, self.best_state = -1.0, None

    def train_epoch(self):
        self.net.train()
        running = 0.0
        for images, masks in self.loaders["train"]:
            images, masks = images.to(CFG.device), masks.to(CFG.device)
            with torch.autocast(CFG.device, dtype=torch.float16, enabled=CFG.device == "cuda"):
                logits = self.net(images)
            loss = self.criterion(logits.float(), masks)
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.scheduler.step()
            running += loss.item() * len(images)
        return running / len(self.loaders["train"].dataset)

    @torch.no_grad()
    def validate(self):
        self.net.eval()
        inter = torch.zeros(CFG.classes)
        total = torch.zeros(CFG.classes)
        for images, masks in self.loaders["val"]:
            logits = self.net(images.to(CFG.device)).float().cpu()
            preds = (logits > 0).float()
            inter += (preds * masks).sum(dim=(0, 2, 3))
            total += preds.sum(dim=(0, 2, 3)) + masks.sum(dim=(0, 2, 3))
        return 2 * inter / total.clamp(min=1)

    def start(self):
        for epoch in range(CFG.epochs):
            loss = self.train_epoch()
            dice = self.validate()
            print(f"epoch {epoch:2d} | loss {loss:.4f} | dice " + " ".join(f"{d:.3f}" for d in dice.tolist()))
            if dice.mean().item() > self.best_dice:
                self.best_dice = dice.mean().item()
                self.best_state = copy.deepcopy(self.net.state_dict())


if __name__ == "__main__":
    seed_everything(CFG.seed)
    trainer = Trainer(UNet(CFG.classes, CFG.width))
    trainer.start()
    trainer.net.load_state_dict(trainer.best_state)
    print(f"best mean dice: {trainer.validate().mean().item():.4f}")
