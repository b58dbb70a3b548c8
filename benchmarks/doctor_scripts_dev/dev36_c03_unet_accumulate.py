# Segmentation of shapes: a small U-Net, cross entropy + Dice, gradients of two micro-batches for each update.
import copy
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import PolynomialLR
from torch.utils.data import DataLoader, Dataset

import toydata


@dataclass
class Config:
    classes: int = 4  # ground, square, disc, cross
    side: int = 24
    base: int = 12
    micro_batch: int = 20
    accumulate: int = 2
    epochs: int = 9
    lr: float = 4e-3
    dice_weight: float = 0.5
    seed: int = 7


class SegmentationSet(Dataset):
    def __init__(self, shapes, indices, augment=False):
        self.shapes, self.indices, self.augment = shapes, indices, augment

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, i):
        k = self.indices[i]
        image = (self.shapes.images[k] - 0.5) / 0.2
        mask = self.shapes.masks[k]
        if self.augment:
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
            if torch.rand(()) < 0.5:
                image, mask = image.transpose(-1, -2), mask.transpose(-1, -2)
        return image.contiguous(), mask.contiguous()


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(),
    )


class UNet(nn.Module):
    def __init__(self, classes, base):
        super().__init__()
        self.down1 = double_conv(3, base)
        self.down2 = double_conv(base, 2 * base)
        self.bottom = double_conv(2 * base, 4 * base)
        self.up2 = nn.ConvTranspose2d(4 * base, 2 * base, 2, stride=2)
        self.dec2 = double_conv(4 * base, 2 * base)
        self.up1 = nn.ConvTranspose2d(2 * base, base, 2, stride=2)
        self.dec1 = double_conv(2 * base, base)
        self.head = nn.Conv2d(base, classes, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        b = self.dec2(torch.cat([self.up2(c), b], dim=1))
        a = self.dec1(torch.cat([self.up1(b), a], dim=1))
        return self.head(a)


def dice_loss(logits, mask, smooth=1.0):
    probs = logits.softmax(dim=1)
    onehot = F.one_hot(mask, logits.size(1)).permute(0, 3, 1, 2).float()
    overlap = (probs * onehot).sum(dim=(0, 2, 3))
    total = probs.sum(dim=(0, 2, 3)) + onehot.sum(dim=(0, 2, 3))
    return 1 - ((2 * overlap + smooth) / (total + smooth)).mean()


@torch.no_grad()
def evaluate(net, loader, classes):
    net.eval()
    confusion = torch.zeros(classes, classes)
    for images, masks in loader:
        predicted = net(images).argmax(dim=1)
        pairs = torch.bincount((masks * classes + predicted).flatten(), minlength=classes**2)
        confusion += pairs.view(classes, classes)
    hits = confusion.diag()
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits).clamp(min=1)
    return iou.mean().item(), (hits.sum() / confusion.sum()).item()


def train_epoch(net, loader, optimizer, scheduler, cfg):
    net.train()
    running, seen = 0.0, 0
    optimizer.zero_grad()
    for i, (images, masks) in enumerate(loader):
        window = min(cfg.accumulate, len(loader) - i // cfg.accumulate * cfg.accumulate)
        logits = net(images)
        loss = F.cross_entropy(logits, masks) + cfg.dice_weight * dice_loss(logits, masks)
        (loss / window).backward()
        if (i + 1) % cfg.accumulate == 0 or i + 1 == len(loader):
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        running += loss.item() * len(images)
        seen += len(images)
    return running / seen


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    pool = toydata.Shapes(train=True, count=760, size=cfg.side)
    test_pool = toydata.Shapes(train=False, count=200, size=cfg.side)
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(cfg.seed)).tolist()
    train_ids, val_ids = order[:640], order[640:]
    train_loader = DataLoader(SegmentationSet(pool, train_ids, augment=True), cfg.micro_batch, shuffle=True)
    val_loader = DataLoader(SegmentationSet(pool, val_ids), 60)
    test_loader = DataLoader(SegmentationSet(test_pool, list(range(len(test_pool)))), 50)

    net = UNet(cfg.classes, cfg.base)
    optimizer = torch.optim.Adam(net.parameters(), lr=cfg.lr)
    updates = -(-len(train_loader) // cfg.accumulate) * cfg.epochs
    scheduler = PolynomialLR(optimizer, total_iters=updates, power=0.9)

    best, best_state = -1.0, None
    for epoch in range(cfg.epochs):
        loss = train_epoch(net, train_loader, optimizer, scheduler, cfg)
        miou, pixel = evaluate(net, val_loader, cfg.classes)
        print(f"epoch {epoch + 1:2d}  loss {loss:.3f}  val mIoU {miou:.3f}  pixel accuracy {pixel:.3f}")
        if miou > best:
            best, best_state = miou, copy.deepcopy(net.state_dict())

    net.load_state_dict(best_state)
    miou, pixel = evaluate(net, test_loader, cfg.classes)
    print(f"test: mIoU {miou:.3f}  pixel accuracy {pixel:.3f}")


if __name__ == "__main__":
    main()
