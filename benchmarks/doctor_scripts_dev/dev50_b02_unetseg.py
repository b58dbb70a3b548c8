"""Semantic segmentation reference training: a small U-Net on shapes."""

import argparse
import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

NUM_CLASSES = 4


class SegmentationShapes(Dataset):
    def __init__(self, train, count, size):
        self.source = Shapes(train=train, count=count, size=size)
        self.train, self.size = train, size

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        image, mask = self.source.images[index], self.source.masks[index]
        image = (image - 0.5) / 0.25
        if self.train:
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
                mask = mask.flip(-1)
        return image, mask


def conv_block(inputs, outputs):
    layers = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stage1 = conv_block(3, width)
        self.stage2 = conv_block(width, 2 * width)
        self.stage3 = conv_block(2 * width, 4 * width)

    def forward(self, x):
        fine = self.stage1(x)
        middle = self.stage2(F.max_pool2d(fine, 2))
        return fine, middle, self.stage3(F.max_pool2d(middle, 2))


class Decoder(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.merge2 = conv_block(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.merge1 = conv_block(2 * width, width)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, fine, middle, coarse):
        x = self.merge2(torch.cat([self.up2(coarse), middle], dim=1))
        x = self.merge1(torch.cat([self.up1(x), fine], dim=1))
        return self.head(x)


class UNet(nn.Module):
    def __init__(self, num_classes, width=12):
        super().__init__()
        self.backbone = Encoder(width)
        self.classifier = Decoder(width, num_classes)

    def forward(self, x):
        return self.classifier(*self.backbone(x))


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, target, predicted):
        n = self.num_classes
        k = (target >= 0) & (target < n)
        inds = n * target[k] + predicted[k]
        self.mat += torch.bincount(inds, minlength=n * n).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        diag = torch.diag(h)
        return (diag.sum() / h.sum()).item(), diag / (h.sum(1) + h.sum(0) - diag).clamp(min=1)


def class_weights(dataset, num_classes):
    counts = torch.bincount(torch.stack(dataset.source.masks).flatten(), minlength=num_classes).float()
    weights = (counts.sum() / counts).sqrt()
    return weights / weights.mean()


def train_one_epoch(model, criterion, optimizer, scheduler, loader):
    model.train()
    total = 0.0
    for image, target in loader:
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(image)
    return total / len(loader.dataset)


def evaluate(model, loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in loader:
            confmat.update(target.flatten(), model(image).argmax(1).flatten())
    return confmat.compute()


def main(args):
    torch.manual_seed(0)
    train_set = SegmentationShapes(True, 640, args.size)
    val_set = SegmentationShapes(False, 160, args.size)
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=32)

    model = UNet(NUM_CLASSES)
    params_to_optimize = [
        {"params": model.backbone.parameters()},
        {"params": model.classifier.parameters(), "lr": args.lr * 1.5},
    ]
    optimizer = torch.optim.AdamW(params_to_optimize, lr=args.lr, weight_decay=1e-4)
    total_iters = len(train_loader) * args.epochs
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: (1 - x / total_iters) ** 0.9)
    criterion = nn.CrossEntropyLoss(weight=class_weights(train_set, NUM_CLASSES))

    best_miou, best_state = 0.0, None
    for epoch in range(args.epochs):
        loss = train_one_epoch(model, criterion, optimizer, scheduler, train_loader)
        acc, iou = evaluate(model, val_loader, NUM_CLASSES)
        miou = iou.mean().item()
        print(f"epoch {epoch}: loss {loss:.4f} acc {acc:.4f} mIoU {miou:.4f}")
        if miou > best_miou:
            best_miou, best_state = miou, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    acc, iou = evaluate(model, val_loader, NUM_CLASSES)
    print("best:", f"acc {acc:.4f}", "IoU", [f"{i:.3f}" for i in iou.tolist()])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--lr", default=2e-3, type=float)
    parser.add_argument("--size", default=24, type=int)
    main(parser.parse_args())
