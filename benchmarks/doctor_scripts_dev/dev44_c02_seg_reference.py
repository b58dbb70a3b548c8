"""Semantic segmentation in the manner of torchvision's references/segmentation/train.py."""
import random
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

import toydata

CLASSES = ["__background__", "square", "disc", "cross"]


class RandomHorizontalFlip:
    def __init__(self, flip_prob):
        self.flip_prob = flip_prob

    def __call__(self, image, target):
        if random.random() < self.flip_prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return image, target


class ShapeSegmentation(Dataset):
    def __init__(self, image_set, transforms=None):
        self.source = toydata.Shapes(train=image_set == "train")
        self.transforms = transforms

    def __len__(self):
        return len(self.source)

    def __getitem__(self, idx):
        image, target = self.source.images[idx], self.source.masks[idx]
        if self.transforms is not None:
            image, target = self.transforms(image, target)
        return (image - 0.5) / 0.2, target


def conv_block(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, num_classes, width=16):
        super().__init__()
        self.down1 = conv_block(3, width)
        self.down2 = conv_block(width, 2 * width)
        self.bottom = conv_block(2 * width, 4 * width)
        self.up2 = conv_block(6 * width, 2 * width)
        self.up1 = conv_block(3 * width, width)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        b = self.up2(torch.cat([F.interpolate(c, scale_factor=2), b], dim=1))
        a = self.up1(torch.cat([F.interpolate(b, scale_factor=2), a], dim=1))
        return {"out": self.classifier(a)}


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        k = (a >= 0) & (a < n)
        self.mat += torch.bincount(n * a[k] + b[k], minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))
        return acc_global, iu


def criterion(inputs, target):
    return F.cross_entropy(inputs["out"], target)


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
    total, count = torch.zeros(()), 0
    for image, target in data_loader:
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        total += loss.detach() * len(image)
        count += len(image)
    print(f"Epoch [{epoch}] loss {total.item() / count:.4f} lr {optimizer.param_groups[0]['lr']:.5f}")


def main(epochs=6, batch_size=30, lr=0.05):
    random.seed(0)
    torch.manual_seed(0)
    dataset = ShapeSegmentation("train", RandomHorizontalFlip(0.5))
    dataset_test = ShapeSegmentation("val")
    data_loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True)
    data_loader_test = DataLoader(dataset_test, batch_size=60)

    model = UNet(len(CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    iters = len(data_loader) * epochs
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: (1 - x / iters) ** 0.9)

    start = time.time()
    for epoch in range(epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch)
        acc, iu = evaluate(model, data_loader_test, len(CLASSES)).compute()
        print(f"  global correct {100 * acc:.1f}  mean IoU {100 * iu.mean():.1f}")
    print(f"Training time {time.time() - start:.1f}s")


if __name__ == "__main__":
    main()
