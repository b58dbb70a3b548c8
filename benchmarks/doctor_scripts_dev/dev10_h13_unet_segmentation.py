"""U-Net on shape masks: cross-entropy plus soft Dice, flips of image and mask together, mean IoU from a confusion matrix."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ["background", "square", "disc", "cross"]


class JointTransform:
    def __init__(self, mean, std, train):
        self.mean, self.std, self.train = mean[:, None, None], std[:, None, None], train

    def __call__(self, image, mask):
        if self.train:
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
            image = image * (0.9 + 0.2 * torch.rand(()))
        return (image - self.mean) / self.std, mask


class SegmentationSet(Dataset):
    def __init__(self, shapes, transform):
        self.shapes, self.transform = shapes, transform

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, i):
        return self.transform(self.shapes.images[i], self.shapes.masks[i])


class DoubleConv(nn.Sequential):
    def __init__(self, i, o):
        super().__init__(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
                         nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, width=16):
        super().__init__()
        self.inc = DoubleConv(n_channels, width)
        self.down1, self.down2 = DoubleConv(width, 2 * width), DoubleConv(2 * width, 4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec1 = DoubleConv(4 * width, 2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec2 = DoubleConv(2 * width, width)
        self.outc = nn.Conv2d(width, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        y = self.dec1(torch.cat([self.up1(x3), x2], 1))
        y = self.dec2(torch.cat([self.up2(y), x1], 1))
        return self.outc(y)


def dice_loss(logits, target, eps=1.0):
    probability = logits.softmax(1)
    onehot = F.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2).float()
    overlap = (probability * onehot).sum((0, 2, 3))
    total = probability.sum((0, 2, 3)) + onehot.sum((0, 2, 3))
    return 1 - ((2 * overlap + eps) / (total + eps)).mean()


class ConfusionMatrix:
    def __init__(self, n):
        self.n, self.mat = n, torch.zeros(n, n, dtype=torch.long)

    def update(self, truth, predicted):
        self.mat += torch.bincount(self.n * truth.flatten() + predicted.flatten(), minlength=self.n ** 2).view(self.n, self.n)

    def compute(self):
        h = self.mat.float()
        return h.diag().sum() / h.sum(), h.diag() / (h.sum(1) + h.sum(0) - h.diag())


def evaluate(model, loader):
    model.eval()
    confmat = ConfusionMatrix(len(CLASSES))
    with torch.inference_mode():
        for image, mask in loader:
            confmat.update(mask, model(image).argmax(1))
    return confmat.compute()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=36)
    parser.add_argument("--lr", type=float, default=4e-3)
    args = parser.parse_args()
    torch.manual_seed(0)

    train_shapes, val_shapes = Shapes(train=True, size=24), Shapes(train=False, size=24)
    pixels = torch.stack(train_shapes.images)
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    train_loader = DataLoader(SegmentationSet(train_shapes, JointTransform(mean, std, True)), args.batch_size, shuffle=True)
    val_loader = DataLoader(SegmentationSet(val_shapes, JointTransform(mean, std, False)), 120)

    model = UNet(3, len(CLASSES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    total = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / total) ** 0.9)
    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for image, mask in train_loader:
            logits = model(image)
            loss = F.cross_entropy(logits, mask) + 0.5 * dice_loss(logits, mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.detach()
        accuracy, iou = evaluate(model, val_loader)
        rows = " ".join(f"{name} {value:.3f}" for name, value in zip(CLASSES, iou))
        print(f"epoch {epoch} loss {running / len(train_loader):.4f} pixels {accuracy:.4f} mIoU {iou.mean():.4f} ({rows})")


if __name__ == "__main__":
    main()
