import argparse
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

NUM_CLASSES = 4
VOID = 255


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target


class RandomFlip:
    def __init__(self, dim, prob=0.5):
        self.dim, self.prob = dim, prob

    def __call__(self, image, target):
        if random.random() >= self.prob:
            return image, target
        return image.flip(self.dim), target.flip(self.dim)


class RandomCrop:
    def __init__(self, margin):
        self.margin = margin

    def __call__(self, image, target):
        h, w, m = *target.shape, self.margin
        image = F.pad(image, (m,) * 4, value=0.0)
        target = F.pad(target, (m,) * 4, value=VOID)
        top, left = random.randint(0, 2 * m), random.randint(0, 2 * m)
        return image[:, top : top + h, left : left + w], target[top : top + h, left : left + w]


class Normalize:
    def __call__(self, image, target):
        return (image - 0.5) / 0.25, target


class Segmentation(Dataset):
    def __init__(self, shapes, indices, transforms):
        self.shapes, self.indices, self.transforms = shapes, indices, transforms

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, i):
        index = self.indices[i]
        return self.transforms(self.shapes.images[index], self.shapes.masks[index])


def conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
    )


class SmallSegNet(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.enc1, self.enc2, self.mid = conv(3, width), conv(width, 2 * width), conv(2 * width, 4 * width)
        self.dec2, self.dec1 = conv(6 * width, 2 * width), conv(3 * width, width)
        self.classifier = nn.Conv2d(width, NUM_CLASSES, 1)

    def forward(self, x):
        a = self.enc1(x)
        b = self.enc2(F.max_pool2d(a, 2))
        c = self.mid(F.max_pool2d(b, 2))
        b = self.dec2(torch.cat([F.interpolate(c, scale_factor=2, mode="nearest"), b], 1))
        a = self.dec1(torch.cat([F.interpolate(b, scale_factor=2, mode="nearest"), a], 1))
        return self.classifier(a)


def criterion(logits, target):
    known = (target != VOID).unsqueeze(1)
    entropy = F.cross_entropy(logits, target, ignore_index=VOID)
    wanted = F.one_hot(target.masked_fill(target == VOID, 0), NUM_CLASSES).permute(0, 3, 1, 2) * known
    given = logits.softmax(1) * known
    overlap = (given * wanted).sum((0, 2, 3))
    dice = (2 * overlap + 1) / (given.sum((0, 2, 3)) + wanted.sum((0, 2, 3)) + 1)
    return entropy - dice.mean()


class ConfusionMatrix:
    def __init__(self, n):
        self.n, self.mat = n, torch.zeros(n, n, dtype=torch.int64)

    def update(self, a, b):
        k = (a >= 0) & (a < self.n)
        self.mat += torch.bincount(self.n * a[k] + b[k], minlength=self.n**2).reshape(self.n, self.n)

    def compute(self):
        h = self.mat.float()
        return (h.diag().sum() / h.sum()).item(), (h.diag() / (h.sum(1) + h.sum(0) - h.diag())).tolist()


@torch.inference_mode()
def evaluate(model, loader):
    model.eval()
    confmat = ConfusionMatrix(NUM_CLASSES)
    for image, target in loader:
        confmat.update(target.flatten(), model(image).argmax(1).flatten())
    correct, iou = confmat.compute()
    return correct, sum(iou) / len(iou)


def train_one_epoch(model, optimizer, loader, lr_scheduler, epoch):
    model.train()
    total = 0.0
    for image, target in loader:
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        total += loss.detach()
    print(f"Epoch [{epoch}] lr {optimizer.param_groups[0]['lr']:.5f} loss {total / len(loader):.4f}", end="  ")


def main(args):
    torch.manual_seed(5)
    random.seed(5)
    train_transforms = Compose([Normalize(), RandomFlip(-1), RandomFlip(-2), RandomCrop(2)])
    shapes, held_out = Shapes(train=True), Shapes(train=False)
    order = torch.randperm(len(shapes)).tolist()
    train_set = Segmentation(shapes, order[:780], train_transforms)
    data_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    loader_val = DataLoader(Segmentation(shapes, order[780:], Normalize()), batch_size=60)
    loader_test = DataLoader(Segmentation(held_out, range(len(held_out)), Normalize()), batch_size=60)

    model = SmallSegNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    iterations = args.epochs * len(data_loader)
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: (1 - i / iterations) ** 0.9)

    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch)
        print("pixels right {:.4f}, mean IoU {:.4f}".format(*evaluate(model, loader_val)))
    print("Test: pixels right {:.4f}, mean IoU {:.4f}".format(*evaluate(model, loader_test)))


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--batch-size", type=int, default=26)
    p.add_argument("--lr", type=float, default=4e-3)
    main(p.parse_args())
