"""Semantic segmentation reference training, after torchvision/references/segmentation/train.py."""

import argparse
import copy
import random

import torch
import torch.utils.data
from torch import nn

from toydata import Shapes

class Compose:
    def __init__(self, transforms):
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

class RandomCrop:
    """Pads image and mask, then crops both back to `size`; padded pixels are not labeled."""
    def __init__(self, size, padding, fill=255):
        self.size, self.padding, self.fill = size, padding, fill
    def __call__(self, image, target):
        p = self.padding
        image = nn.functional.pad(image, (p, p, p, p), value=0.5)
        target = nn.functional.pad(target, (p, p, p, p), value=self.fill)
        top, left = random.randint(0, 2 * p), random.randint(0, 2 * p)
        rows, cols = slice(top, top + self.size), slice(left, left + self.size)
        return image[:, rows, cols], target[rows, cols]

class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = (torch.tensor(v).view(-1, 1, 1) for v in (mean, std))
    def __call__(self, image, target):
        return (image - self.mean) / self.std, target

class SegmentationDataset(torch.utils.data.Dataset):
    def __init__(self, train, size, transforms):
        self.shapes = Shapes(train=train, size=size)
        self.transforms = transforms
    def __len__(self):
        return len(self.shapes)
    def __getitem__(self, index):
        return self.transforms(self.shapes.images[index], self.shapes.masks[index])

def get_transform(train, args):
    normalize = Normalize(mean=(0.5, 0.47, 0.5), std=(0.15, 0.15, 0.15))
    if not train:
        return Compose([normalize])
    return Compose([RandomHorizontalFlip(0.5), RandomCrop(args.size, padding=2), normalize])

def conv_block(inplanes, planes, stride=1):
    return nn.Sequential(
        nn.Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(planes),
        nn.ReLU(inplace=True),
    )

class SmallFCN(nn.Module):
    def __init__(self, num_classes, width=16):
        super().__init__()
        self.stem = nn.Sequential(conv_block(3, width), conv_block(width, width))
        self.layer1 = nn.Sequential(conv_block(width, 2 * width, 2), conv_block(2 * width, 2 * width))
        self.layer2 = nn.Sequential(conv_block(2 * width, 2 * width, 2), conv_block(2 * width, 2 * width))
        self.fuse = conv_block(4 * width, 2 * width)
        self.classifier = nn.Sequential(conv_block(3 * width, 2 * width), nn.Conv2d(2 * width, num_classes, 1))
        self.aux_classifier = nn.Conv2d(2 * width, num_classes, 1)
    def forward(self, x):
        low = self.stem(x)
        mid = self.layer1(low)
        high = nn.functional.interpolate(self.layer2(mid), size=mid.shape[-2:], mode="bilinear", align_corners=False)
        mid = self.fuse(torch.cat([mid, high], dim=1))
        up = nn.functional.interpolate(mid, size=low.shape[-2:], mode="bilinear", align_corners=False)
        aux = nn.functional.interpolate(self.aux_classifier(mid), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return {"out": self.classifier(torch.cat([low, up], dim=1)), "aux": aux}

class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros((num_classes, num_classes), dtype=torch.int64)
    def update(self, a, b):
        n = self.num_classes
        k = (a >= 0) & (a < n)
        inds = n * a[k] + b[k]
        self.mat += torch.bincount(inds, minlength=n**2).reshape(n, n)
    def compute(self):
        h = self.mat.float()
        iu = h.diag() / (h.sum(1) + h.sum(0) - h.diag())
        return (h.diag().sum() / h.sum()).item(), iu

def criterion(inputs, target):
    losses = {}
    for name, x in inputs.items():
        losses[name] = nn.functional.cross_entropy(x, target, ignore_index=255)
    return losses["out"] + 0.5 * losses["aux"]

def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)["out"]
            confmat.update(target.flatten(), output.argmax(1).flatten())
    return confmat

def train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch):
    model.train()
    total, seen = 0.0, 0
    for image, target in data_loader:
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        total, seen = total + loss.item() * len(image), seen + len(image)
    print(f"Epoch: [{epoch}] lr: {lr_scheduler.get_last_lr()[0]:.5f} loss: {total / seen:.4f}")

def main(args):
    random.seed(0)
    torch.manual_seed(0)
    dataset = SegmentationDataset(True, args.size, get_transform(True, args))
    dataset_test = SegmentationDataset(False, args.size, get_transform(False, args))
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=60)
    model = SmallFCN(num_classes=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
    total_iters = len(data_loader) * args.epochs
    lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=total_iters, power=0.9)
    best_miou, checkpoint = 0.0, None
    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch)
        acc_global, iu = evaluate(model, data_loader_test, num_classes=4).compute()
        miou = iu.mean().item()
        print(f"Test: global correct {100 * acc_global:.1f} mean IoU {100 * miou:.1f}")
        if checkpoint is None or miou > best_miou:
            best_miou, checkpoint = miou, copy.deepcopy(model.state_dict())
    print(f"best mean IoU {100 * best_miou:.1f}, {len(checkpoint)} tensors kept")

def get_args_parser():
    parser = argparse.ArgumentParser(description="PyTorch Segmentation Training")
    parser.add_argument("--size", default=24, type=int)
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=10, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--weight-decay", default=1e-4, type=float)
    return parser

if __name__ == "__main__":
    main(get_args_parser().parse_args())
