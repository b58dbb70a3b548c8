"""Semantic segmentation of colored shapes, after torchvision's references/segmentation/train.py."""

import random
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

import toydata

CLASSES = ["__background__", "square", "disc", "cross"]


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


class Normalize:
    def __init__(self, mean, std):
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


class ShapesSegmentation(Dataset):
    def __init__(self, image_set, transforms):
        train = image_set == "train"
        base = toydata.Shapes(train=train, count=600 if train else 160, size=24)
        self.images, self.masks, self.transforms = base.images, base.masks, transforms

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transforms(self.images[index], self.masks[index])


def get_transform(train):
    mean, std = (0.5, 0.45, 0.5), (0.2, 0.15, 0.2)
    if train:
        return Compose([RandomHorizontalFlip(0.5), Normalize(mean, std)])
    return Compose([Normalize(mean=mean, std=std)])


def double_conv(cin, cout):
    first = [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]
    second = [nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]
    return nn.Sequential(*first, *second)


class UNet(nn.Module):
    def __init__(self, num_classes, width=16):
        super().__init__()
        self.down1 = double_conv(3, width)
        self.down2 = double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.up2 = double_conv(6 * width, 2 * width)
        self.up1 = double_conv(3 * width, width)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.aux_classifier = nn.Conv2d(4 * width, num_classes, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        b = self.bottom(F.max_pool2d(d2, 2))
        u2 = self.up2(torch.cat([F.interpolate(b, scale_factor=2.0), d2], dim=1))
        u1 = self.up1(torch.cat([F.interpolate(u2, scale_factor=2.0), d1], dim=1))
        aux = F.interpolate(self.aux_classifier(b), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return {"out": self.classifier(u1), "aux": aux}


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        inds = n * a + b
        self.mat += torch.bincount(inds, minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h)).clamp(min=1)
        return acc_global, iu


def criterion(inputs, target):
    losses = {name: F.cross_entropy(x, target) for name, x in inputs.items()}
    return losses["out"] + 0.5 * losses["aux"]


@torch.no_grad()
def evaluate(model, data_loader):
    model.eval()
    confmat = ConfusionMatrix(len(CLASSES))
    for image, target in data_loader:
        output = model(image)["out"]
        confmat.update(target.flatten(), output.argmax(1).flatten())
    return confmat.compute()


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch):
    model.train()
    running = 0.0
    for image, target in data_loader:
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        running += loss.item()
    print(f"Epoch: [{epoch}] lr: {optimizer.param_groups[0]['lr']:.5f} loss: {running / len(data_loader):.4f}")


def main(batch_size, epochs, lr, weight_decay, seed):
    random.seed(seed)
    torch.manual_seed(seed)
    dataset = ShapesSegmentation("train", get_transform(train=True))
    dataset_test = ShapesSegmentation("val", get_transform(train=False))
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True)
    loader_test = DataLoader(dataset_test, batch_size=batch_size)

    model = UNet(len(CLASSES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    total = len(loader) * epochs
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - min(step, total) / total) ** 0.9)

    start = time.time()
    for epoch in range(epochs):
        train_one_epoch(model, optimizer, loader, lr_scheduler, epoch)
        acc, iu = evaluate(model, loader_test)
        print(f"  global correct: {100 * acc:.1f}  IoU: {[f'{100 * i:.1f}' for i in iu.tolist()]}  mean IoU: {100 * iu.mean():.1f}")
    print(f"Training time {time.time() - start:.1f} s")


if __name__ == "__main__":
    main(batch_size=30, epochs=8, lr=0.004, weight_decay=1e-4, seed=0)
