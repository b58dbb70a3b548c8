"""Semantic segmentation of shapes with a small U-Net, in the manner of torchvision's references/segmentation."""

import argparse
import copy
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

import toydata

MEAN = torch.tensor([0.47, 0.44, 0.47]).view(3, 1, 1)
STD = torch.tensor([0.19, 0.13, 0.19]).view(3, 1, 1)


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target


class RandomFlip:
    def __init__(self, flip_prob, dim):
        self.flip_prob = flip_prob
        self.dim = dim

    def __call__(self, image, target):
        if random.random() < self.flip_prob:
            image = image.flip(self.dim)
            target = target.flip(self.dim)
        return image, target


def normalize(image, target):
    return (image - MEAN) / STD, target


class ShapeSegmentation(Dataset):
    def __init__(self, shapes, indices, transforms):
        self.images = [shapes.images[i] for i in indices]
        self.masks = [shapes.masks[i] for i in indices]
        self.transforms = transforms

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        return self.transforms(self.images[idx], self.masks[idx])


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.encoder = nn.ModuleList(
            [double_conv(3, width), double_conv(width, 2 * width), double_conv(2 * width, 4 * width)])
        self.decoder = nn.ModuleList([double_conv(6 * width, 2 * width), double_conv(3 * width, width)])
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        skips = []
        for stage in self.encoder[:-1]:
            x = stage(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.encoder[-1](x)
        for stage in self.decoder:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = stage(torch.cat([x, skips.pop()], dim=1))
        return self.classifier(x)


def train_one_epoch(model, criterion, optimizer, data_loader, lr_scheduler, epoch):
    model.train()
    total = 0.0
    for image, target in data_loader:
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        total += loss.item()
    print(f"Epoch: [{epoch}] lr: {optimizer.param_groups[0]['lr']:.4f} loss: {total / len(data_loader):.4f}")


@torch.inference_mode()
def evaluate(model, criterion, data_loader, num_classes):
    model.eval()
    confmat = torch.zeros(num_classes, num_classes)
    total = 0.0
    for image, target in data_loader:
        output = model(image)
        total += criterion(output, target).item() * len(image)
        pairs = num_classes * target.flatten() + output.argmax(1).flatten()
        confmat += torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    iou = confmat.diag() / (confmat.sum(1) + confmat.sum(0) - confmat.diag())
    return total / len(data_loader.dataset), confmat.diag().sum() / confmat.sum(), iou


def main(args):
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    num_classes = 4
    augment = Compose([RandomFlip(0.5, -1), RandomFlip(0.5, -2), normalize])
    shapes = toydata.Shapes(train=True, size=24)
    dataset = ShapeSegmentation(shapes, range(0, 750), augment)
    dataset_val = ShapeSegmentation(shapes, range(750, 900), normalize)
    dataset_test = ShapeSegmentation(toydata.Shapes(train=False, size=24), range(240), normalize)
    data_loader = DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_val = DataLoader(dataset_val, batch_size=50)
    data_loader_test = DataLoader(dataset_test, batch_size=60)

    counts = torch.bincount(torch.stack(dataset.masks).flatten(), minlength=num_classes).float()
    weights = counts.sum() / (num_classes * counts)
    criterion = nn.CrossEntropyLoss(weight=weights)
    model = UNet(num_classes)
    params_to_optimize = [
        {"params": model.encoder.parameters()},
        {"params": model.decoder.parameters()},
        {"params": model.classifier.parameters(), "lr": args.lr * 2},
    ]
    optimizer = torch.optim.SGD(params_to_optimize, lr=args.lr, momentum=0.9, weight_decay=1e-4)
    iterations = len(data_loader) * args.epochs
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda it: (1 - it / iterations) ** 0.9)

    best_loss = float("inf")
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, lr_scheduler, epoch)
        val_loss, _, iou = evaluate(model, criterion, data_loader_val, num_classes)
        print(f"  val loss: {val_loss:.4f} mean IoU: {iou.mean():.3f}")
        if val_loss < best_loss:
            best_loss = val_loss
            best_weights = copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    _, acc_global, iou = evaluate(model, criterion, data_loader_test, num_classes)
    print(f"test: global correct {acc_global:.3f} IoU {[round(i, 3) for i in iou.tolist()]} mean {iou.mean():.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--batch-size", default=16, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--seed", default=1, type=int)
    main(parser.parse_args())
