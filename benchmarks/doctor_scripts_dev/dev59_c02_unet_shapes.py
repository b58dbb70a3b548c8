"""Semantic segmentation of shapes with a small U-Net, cross entropy and soft Dice."""

import argparse
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Subset

from toydata import Shapes

NUM_CLASSES = 4


class SegmentationDataset(Dataset):
    def __init__(self, train, augment):
        base = Shapes(train=train)
        self.images, self.masks = base.images, base.masks
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image, mask = (self.images[idx] - 0.5) / 0.2, self.masks[idx]
        if self.augment:
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return {"image": image, "mask": mask}


class DoubleConv(nn.Module):
    """(convolution => [BN] => ReLU) * 2"""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class UNet(nn.Module):
    def __init__(self, n_channels=3, n_classes=NUM_CLASSES, width=12):
        super().__init__()
        self.inc = DoubleConv(n_channels, width)
        self.down1 = DoubleConv(width, 2 * width)
        self.down2 = DoubleConv(2 * width, 4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.conv1 = DoubleConv(4 * width, 2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.conv2 = DoubleConv(2 * width, width)
        self.outc = nn.Conv2d(width, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.conv1(torch.cat([x2, self.up1(x3)], dim=1))
        x = self.conv2(torch.cat([x1, self.up2(x)], dim=1))
        return self.outc(x)


def dice_coeff(probs, target, epsilon=1.0):
    """Soft Dice, averaged over the classes of the batch."""
    dims = (0, 2, 3)
    inter = 2 * (probs * target).sum(dims)
    total = probs.sum(dims) + target.sum(dims)
    return ((inter + epsilon) / (total + epsilon)).mean()


def criterion(logits, masks):
    one_hot = F.one_hot(masks, NUM_CLASSES).permute(0, 3, 1, 2).float()
    dice = dice_coeff(logits.softmax(dim=1), one_hot)
    return F.cross_entropy(logits, masks) + (1 - dice)


@torch.inference_mode()
def evaluate(net, loader, device):
    net.eval()
    confusion = torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.long)
    for batch in loader:
        pred = net(batch["image"].to(device)).argmax(dim=1).cpu()
        index = batch["mask"].flatten() * NUM_CLASSES + pred.flatten()
        confusion += torch.bincount(index, minlength=NUM_CLASSES**2).view(NUM_CLASSES, NUM_CLASSES)
    net.train()
    inter = confusion.diag().float()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    return (inter / union.clamp(min=1)).mean().item()


def get_args():
    parser = argparse.ArgumentParser(description="Train the UNet on images and target masks")
    parser.add_argument("--epochs", "-e", type=int, default=8)
    parser.add_argument("--batch-size", "-b", type=int, default=24)
    parser.add_argument("--learning-rate", "-l", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = get_args()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    order = torch.randperm(900, generator=torch.Generator().manual_seed(args.seed)).tolist()
    train_set = Subset(SegmentationDataset(train=True, augment=True), order[150:])
    val_set = Subset(SegmentationDataset(train=True, augment=False), order[:150])
    test_set = SegmentationDataset(train=False, augment=False)
    train_loader = DataLoader(train_set, shuffle=True, batch_size=args.batch_size, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=50)
    test_loader = DataLoader(test_set, batch_size=60)

    net = UNet().to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.learning_rate, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.learning_rate, total_steps=args.epochs * len(train_loader)
    )

    best, best_state = -1.0, None
    for epoch in range(1, args.epochs + 1):
        net.train()
        epoch_loss = 0.0
        for batch in train_loader:
            images, masks = batch["image"].to(device), batch["mask"].to(device)
            loss = criterion(net(images), masks)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            scheduler.step()
            epoch_loss += loss.item()
        miou = evaluate(net, val_loader, device)
        print(f"epoch {epoch}: loss {epoch_loss / len(train_loader):.3f}, validation mIoU {miou:.3f}")
        if miou > best:
            best, best_state = miou, copy.deepcopy(net.state_dict())

    net.load_state_dict(best_state)
    print(f"test mIoU {evaluate(net, test_loader, device):.3f}")


if __name__ == "__main__":
    main()
