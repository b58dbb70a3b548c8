"""Semantic segmentation of shapes with a small U-Net: functions and a config dict, cross-entropy plus dice, flips of
image and mask together, SequentialLR."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from toydata import Shapes

CONFIG = {
    "seed": 3,
    "size": 24,
    "classes": 4,
    "train": 1200,
    "val": 240,
    "batch": 32,
    "epochs": 10,
    "lr": 3e-3,
    "warmup": 20,
    "dice": 0.5,
}


def load(train, cfg):
    data = Shapes(train=train, count=cfg["train"] if train else cfg["val"], size=cfg["size"])
    return torch.stack(data.images), torch.stack(data.masks)


def double(inside, outside):
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
        nn.Conv2d(outside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )


class UNet(nn.Module):
    def __init__(self, classes, width=16):
        super().__init__()
        self.down1 = double(3, width)
        self.down2 = double(width, 2 * width)
        self.bottom = double(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.merge2 = double(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.merge1 = double(2 * width, width)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        b = self.merge2(torch.cat([self.up2(c), b], dim=1))
        a = self.merge1(torch.cat([self.up1(b), a], dim=1))
        return self.classify(a)


def dice_loss(logits, masks, eps=1.0):
    probabilities = logits.softmax(dim=1)
    truth = F.one_hot(masks, logits.shape[1]).permute(0, 3, 1, 2).to(probabilities.dtype)
    overlap = (probabilities * truth).sum(dim=(0, 2, 3))
    size = probabilities.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    return 1 - ((2 * overlap + eps) / (size + eps)).mean()


def random_flip(images, masks):
    if torch.rand(()) < 0.5:
        images, masks = images.flip(-1), masks.flip(-1)
    if torch.rand(()) < 0.5:
        images, masks = images.flip(-2), masks.flip(-2)
    return images, masks


@torch.no_grad()
def evaluate(model, images, masks, cfg):
    model.eval()
    confusion = torch.zeros(cfg["classes"], cfg["classes"], dtype=torch.long)
    for x, y in zip(images.split(80), masks.split(80)):
        predicted = model(x).argmax(dim=1)
        pairs = y.flatten() * cfg["classes"] + predicted.flatten()
        confusion += torch.bincount(pairs, minlength=cfg["classes"] ** 2).view(cfg["classes"], -1)
    hit = confusion.diag().float()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    return (hit / union).mean().item(), (hit.sum() / confusion.sum()).item()


def train(cfg):
    torch.manual_seed(cfg["seed"])
    images, masks = load(True, cfg)
    val_images, val_masks = load(False, cfg)
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    std = images.std(dim=(0, 2, 3), keepdim=True)
    images, val_images = (images - mean) / std, (val_images - mean) / std

    model = UNet(cfg["classes"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg["lr"], weight_decay=1e-3)
    steps = cfg["epochs"] * -(-len(images) // cfg["batch"])
    warmup = LinearLR(optimizer, start_factor=0.1, total_iters=cfg["warmup"])
    cosine = CosineAnnealingLR(optimizer, T_max=steps - cfg["warmup"])
    scheduler = SequentialLR(optimizer, [warmup, cosine], milestones=[cfg["warmup"]])

    for epoch in range(cfg["epochs"]):
        model.train()
        losses = []
        for chosen in torch.randperm(len(images)).split(cfg["batch"]):
            x, y = random_flip(images[chosen], masks[chosen])
            logits = model(x)
            loss = F.cross_entropy(logits, y) + cfg["dice"] * dice_loss(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.detach())
        iou, accuracy = evaluate(model, val_images, val_masks, cfg)
        print(f"epoch {epoch}: loss {torch.stack(losses).mean():.4f}  mean IoU {iou:.4f}  pixel accuracy {accuracy:.4f}")


if __name__ == "__main__":
    train(CONFIG)
