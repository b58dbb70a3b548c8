"""Semantic segmentation of shapes, in the manner of torchvision's references/segmentation/train.py."""
import argparse
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

import toydata

MEAN, STD = (0.50, 0.455, 0.50), (0.17, 0.135, 0.17)
NUM_CLASSES = 4  # ground, square, disc, cross


class Compose:
    def __init__(self, *transforms):
        self.transforms = transforms

    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target


class RandomHorizontalFlip:
    def __init__(self, flip_prob):
        self.flip_prob = flip_prob

    def __call__(self, image, target):
        if random.random() < self.flip_prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return image, target


class RandomShift:
    def __init__(self, margin, fill):
        self.margin, self.fill = margin, fill

    def __call__(self, image, target):
        h, w = target.shape
        image = F.pad(image, [self.margin] * 4, value=127)
        target = F.pad(target, [self.margin] * 4, value=self.fill)
        top, left = random.randint(0, 2 * self.margin), random.randint(0, 2 * self.margin)
        return image[:, top:top + h, left:left + w], target[top:top + h, left:left + w]


class ToFloat:
    def __call__(self, image, target):
        return image.float() / 255, target


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


def get_transform(train):
    if train:
        return Compose(RandomShift(2, fill=255), RandomHorizontalFlip(0.5), ToFloat(), Normalize(MEAN, STD))
    return Compose(ToFloat(), Normalize(MEAN, STD))


class ShapeSegmentation(Dataset):
    def __init__(self, image_set, transforms):
        source = toydata.Shapes(train=image_set == "train", size=20)
        self.images = [(image * 255).to(torch.uint8) for image in source.images]
        self.masks, self.transforms = source.masks, transforms

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        return self.transforms(self.images[idx], self.masks[idx])


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class SmallUNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.enc1, self.enc2, self.enc3 = double_conv(3, 16), double_conv(16, 32), double_conv(32, 48)
        self.dec2, self.dec1 = double_conv(48 + 32, 32), double_conv(32 + 16, 16)
        self.classifier, self.aux_classifier = nn.Conv2d(16, num_classes, 1), nn.Conv2d(48, num_classes, 1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        e3 = self.enc3(F.max_pool2d(e2, 2))
        d2 = self.dec2(torch.cat([F.interpolate(e3, scale_factor=2.0), e2], dim=1))
        d1 = self.dec1(torch.cat([F.interpolate(d2, scale_factor=2.0), e1], dim=1))
        aux = F.interpolate(self.aux_classifier(e3), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return {"out": self.classifier(d1), "aux": aux}


def criterion(inputs, target):
    losses = {name: F.cross_entropy(x, target, ignore_index=255) for name, x in inputs.items()}
    return losses["out"] + 0.5 * losses["aux"]


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, device, epoch, scaler, max_norm):
    model.train()
    total = 0.0
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        with torch.autocast(device.type, enabled=device.type == "cuda"):
            loss = criterion(model(image), target)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        scaler.step(optimizer)
        scaler.update()
        lr_scheduler.step()
        total += loss.item()
    print(f"Epoch: [{epoch}]  lr: {optimizer.param_groups[0]['lr']:.5f}  loss: {total / len(data_loader):.4f}")


def evaluate(model, data_loader, device):
    model.eval()
    confmat = torch.zeros(NUM_CLASSES, NUM_CLASSES)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image.to(device))["out"]
            pairs = NUM_CLASSES * target.flatten() + output.argmax(1).flatten().cpu()
            confmat += torch.bincount(pairs, minlength=NUM_CLASSES ** 2).view(NUM_CLASSES, NUM_CLASSES)
    right = confmat.diag()
    return (right.sum() / confmat.sum()).item(), right / (confmat.sum(0) + confmat.sum(1) - right).clamp(min=1)


def main(args):
    random.seed(0)
    torch.manual_seed(0)
    device = torch.device(args.device)
    data_loader = DataLoader(ShapeSegmentation("train", get_transform(True)), args.batch_size, shuffle=True)
    data_loader_test = DataLoader(ShapeSegmentation("val", get_transform(False)), args.batch_size)
    model = SmallUNet(NUM_CLASSES).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(device.type)
    lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=len(data_loader) * args.epochs, power=0.9)
    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, device, epoch, scaler, max_norm=1.0)
        acc, iou = evaluate(model, data_loader_test, device)
        print(f"  global correct: {acc:.4f}  IoU: {[round(v, 3) for v in iou.tolist()]}  mean IoU: {iou.mean():.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-b", "--batch-size", default=30, type=int)
    parser.add_argument("--epochs", default=7, type=int)
    main(parser.parse_args())
