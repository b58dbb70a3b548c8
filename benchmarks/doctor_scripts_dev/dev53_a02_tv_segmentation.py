"""Semantic segmentation of shapes, after torchvision's references/segmentation/train.py."""

import argparse
import random
import time
from collections import Counter

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from toydata import Shapes

IGNORE = 255

class Compose:
    def __init__(self, transforms):
        self.transforms = transforms
    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target

class ToTensor:
    def __call__(self, image, target):
        image = torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255
        return image, torch.as_tensor(target, dtype=torch.int64)

class RandomHorizontalFlip:
    def __init__(self, prob):
        self.prob = prob
    def __call__(self, image, target):
        if random.random() < self.prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return image, target

class PadAndCrop:
    def __init__(self, pad, size):
        self.pad, self.size = pad, size
    def __call__(self, image, target):
        image = F.pad(image, [self.pad] * 4, value=0.5)
        target = F.pad(target, [self.pad] * 4, value=IGNORE)
        top, left = random.randint(0, 2 * self.pad), random.randint(0, 2 * self.pad)
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        return image[window], target[window]

class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
    def __call__(self, image, target):
        return (image - self.mean) / self.std, target

class SegmentationDataset(torch.utils.data.Dataset):
    """Images as H x W x 3 uint8 arrays with H x W masks, as read from PNG files."""
    def __init__(self, image_set, transforms):
        shapes = Shapes(train=image_set == "train")
        self.images = [(im.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for im in shapes.images]
        self.masks = [m.numpy().astype(np.uint8) for m in shapes.masks]
        self.transforms = transforms
    def __len__(self):
        return len(self.images)
    def __getitem__(self, i):
        return self.transforms(self.images[i], self.masks[i])

def get_transform(train):
    norm = Normalize([0.49, 0.46, 0.49], [0.2, 0.15, 0.2])
    if train:
        return Compose([ToTensor(), RandomHorizontalFlip(0.5), PadAndCrop(2, 16), norm])
    return Compose([ToTensor(), norm])

def collate_fn(batch):
    images, targets = zip(*batch)
    return torch.stack(images), torch.stack(targets)

def block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU())
class SegNet(nn.Module):
    def __init__(self, num_classes, width=16):
        super().__init__()
        self.backbone = nn.ModuleDict(
            {
                "layer1": nn.Sequential(block(3, width), block(width, width)),
                "layer2": nn.Sequential(nn.MaxPool2d(2), block(width, 2 * width), block(2 * width, 2 * width)),
                "layer3": nn.Sequential(nn.MaxPool2d(2), block(2 * width, 2 * width), block(2 * width, 2 * width)),
            }
        )
        self.classifier = nn.Sequential(block(5 * width, 2 * width), nn.Conv2d(2 * width, num_classes, 1))
        self.aux_classifier = nn.Sequential(block(2 * width, width), nn.Conv2d(width, num_classes, 1))
    def forward(self, x):
        size = x.shape[-2:]
        f1 = self.backbone["layer1"](x)
        f2 = self.backbone["layer2"](f1)
        f3 = self.backbone["layer3"](f2)
        up = [F.interpolate(f, size=size, mode="bilinear", align_corners=False) for f in (f2, f3)]
        aux = F.interpolate(self.aux_classifier(f2), size=size, mode="bilinear", align_corners=False)
        return {"out": self.classifier(torch.cat([f1] + up, 1)), "aux": aux}
class ConfusionMatrix:
    def __init__(self, num_classes):
        self.n = num_classes
        self.mat = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    def update(self, a, b):
        k = (a >= 0) & (a < self.n)
        self.mat += torch.bincount(self.n * a[k] + b[k], minlength=self.n**2).reshape(self.n, self.n)
    def compute(self):
        h = self.mat.float()
        return h.diag().sum() / h.sum(), h.diag() / (h.sum(1) + h.sum(0) - h.diag())
def pixel_weights(masks):
    counter = Counter(np.concatenate([m.ravel() for m in masks]).tolist())
    counts = torch.tensor([n for _, n in sorted(counter.items(), key=lambda kv: kv[0])]).float()
    weight = counts.rsqrt()
    return weight / weight.mean()
def criterion(inputs, target, weight):
    losses = {k: F.cross_entropy(v, target, weight=weight, ignore_index=IGNORE) for k, v in inputs.items()}
    return losses["out"] + 0.5 * losses["aux"]
def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)["out"]
            confmat.update(target.flatten(), output.argmax(1).flatten())
    return confmat
def train_one_epoch(model, optimizer, data_loader, lr_scheduler, weight):
    model.train()
    total = 0.0
    for image, target in data_loader:
        loss = criterion(model(image), target, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        total += loss.item()
    return total / len(data_loader)
def main(args):
    random.seed(0)
    torch.manual_seed(0)
    num_classes = 4
    dataset, dataset_test = (SegmentationDataset(s, get_transform(s == "train")) for s in ("train", "val"))
    data_loader = torch.utils.data.DataLoader(dataset, args.batch_size, shuffle=True, collate_fn=collate_fn, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, 60, collate_fn=collate_fn)
    model = SegNet(num_classes)
    weight = pixel_weights(dataset.masks)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    iters = args.epochs * len(data_loader)
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: (1 - min(x, iters) / iters) ** 0.9)
    start = time.time()
    for epoch in range(args.epochs):
        loss = train_one_epoch(model, optimizer, data_loader, lr_scheduler, weight)
        acc, iou = evaluate(model, data_loader_test, num_classes).compute()
        print(f"Epoch {epoch}: loss {loss:.4f} acc {acc:.4f} mean IoU {iou.mean():.4f} {[round(v, 3) for v in iou.tolist()]}")
    print(f"Training time {time.time() - start:.1f}s")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Segmentation training")
    parser.add_argument("-b", "--batch-size", default=24, type=int)
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    main(parser.parse_args())
