"""Semantic segmentation of colored shapes with a small U-Net, in the manner of torchvision's references."""

import argparse
import copy
import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ("__background__", "square", "disc", "cross")


class RandomFlip:
    """Flips all the tensors that it is given, or none of them."""

    def __call__(self, *tensors):
        if random.random() < 0.5:
            tensors = [t.flip(-1) for t in tensors]
        if random.random() < 0.5:
            tensors = [t.flip(-2) for t in tensors]
        return tensors


class ShapesSegmentation(Dataset):
    """Images as cv2.imread gives them (uint8, height x width x channels), and masks of class numbers."""

    def __init__(self, train, size, augment=None):
        shapes = Shapes(train=train, size=size)
        self.size = size
        self.images = [np.ascontiguousarray((im.permute(1, 2, 0) * 255).numpy().astype(np.uint8)) for im in shapes.images]
        self.masks = [m.numpy().astype(np.int64) for m in shapes.masks]
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.from_numpy(self.images[index]).permute(2, 0, 1).float() / 255
        mask = torch.from_numpy(self.masks[index])
        if self.augment is not None:
            image, mask = self.augment(image, mask)
        return (image - 0.5) / 0.2, mask


class DoubleConv(nn.Sequential):
    def __init__(self, c_in, c_out):
        super().__init__(
            nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    def __init__(self, num_classes, width=12):
        super().__init__()
        self.enc1 = DoubleConv(3, width)
        self.enc2 = DoubleConv(width, 2 * width)
        self.bottom = DoubleConv(2 * width, 4 * width)
        self.pool = nn.MaxPool2d(2)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec2 = DoubleConv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec1 = DoubleConv(2 * width, width)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(self.pool(e1))
        x = self.bottom(self.pool(e2))
        x = self.dec2(torch.cat([self.up2(x), e2], dim=1))
        x = self.dec1(torch.cat([self.up1(x), e1], dim=1))
        return self.classifier(x)


class ModelEMA:
    """The average of the weights over the last steps, which is what gets evaluated (after timm's ModelEmaV2)."""

    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ours, theirs in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ours.dtype.is_floating_point:
                ours.lerp_(theirs, 1 - self.decay)
            else:
                ours.copy_(theirs)


def class_weights(dataset):
    counts = np.bincount(np.concatenate([m.ravel() for m in dataset.masks]), minlength=len(CLASSES))
    frequency = counts / counts.sum()
    return torch.tensor(np.sqrt(np.median(frequency) / frequency), dtype=torch.float32)


def train_one_epoch(model, ema, criterion, optimizer, lr_scheduler, data_loader):
    model.train()
    total = 0.0
    for image, target in data_loader:
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        ema.update(model)
        total = total + loss.detach()
    return float(total) / len(data_loader)


@torch.no_grad()
def evaluate(model, data_loader):
    model.eval()
    n = len(CLASSES)
    mat = torch.zeros(n, n)
    for image, target in data_loader:
        prediction = model(image).argmax(1)
        k = (target >= 0) & (target < n)
        mat += torch.bincount(n * target[k] + prediction[k], minlength=n * n).reshape(n, n)
    iou = mat.diag() / (mat.sum(1) + mat.sum(0) - mat.diag()).clamp(min=1)
    return (mat.diag().sum() / mat.sum()).item(), iou


def main(args):
    random.seed(0)
    torch.manual_seed(0)
    train_set = ShapesSegmentation(train=True, size=args.size, augment=RandomFlip())
    val_set = ShapesSegmentation(train=False, size=args.size)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=60)

    model = UNet(len(CLASSES))
    ema = ModelEMA(model, decay=args.ema_decay)
    criterion = nn.CrossEntropyLoss(weight=class_weights(train_set))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, args.epochs * len(train_loader), power=0.9)

    best_miou, best_state = -1.0, None
    for epoch in range(args.epochs):
        loss = train_one_epoch(model, ema, criterion, optimizer, lr_scheduler, train_loader)
        acc_global, iou = evaluate(ema.module, val_loader)
        miou = iou.mean().item()
        if miou > best_miou:
            best_miou, best_state = miou, copy.deepcopy(ema.module.state_dict())
        print(f"Epoch {epoch}: loss {loss:.3f} global correct {acc_global:.3f} mean IoU {miou:.3f} {[round(v, 2) for v in iou.tolist()]}")
    ema.module.load_state_dict(best_state)
    print(f"best mean IoU {best_miou:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--batch-size", default=30, type=int)
    parser.add_argument("--size", default=24, type=int)
    parser.add_argument("--ema-decay", default=0.95, type=float)
    main(parser.parse_args())
