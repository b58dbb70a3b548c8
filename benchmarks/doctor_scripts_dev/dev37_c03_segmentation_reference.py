"""Semantic segmentation of shapes, in the manner of torchvision/references/segmentation/train.py"""
import random
import time

import torch
import torch.utils.data
from torch import nn
from torch.nn import functional as F

import toydata

NUM_CLASSES = 4


class SegmentationPresetTrain:
    def __init__(self, hflip_prob=0.5, mean=0.5, std=0.18):
        self.hflip_prob, self.mean, self.std = hflip_prob, mean, std

    def __call__(self, image, target):
        if random.random() < self.hflip_prob:
            image, target = image.flip(-1), target.flip(-1)
        return (image - self.mean) / self.std, target


class SegmentationPresetEval:
    def __init__(self, mean=0.5, std=0.18):
        self.mean, self.std = mean, std

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


class ShapeSegmentation(torch.utils.data.Dataset):
    def __init__(self, train, count, transforms):
        self.shapes = toydata.Shapes(train=train, count=count, size=24)
        self.transforms = transforms

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, mask = self.shapes.images[index], self.shapes.masks[index]
        return self.transforms(image, mask)


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros((num_classes, num_classes), dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        with torch.inference_mode():
            k = (a >= 0) & (a < n)
            inds = n * a[k].to(torch.int64) + b[k]
            self.mat += torch.bincount(inds, minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        acc = torch.diag(h) / h.sum(1)
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))
        return acc_global, acc, iu

    def __str__(self):
        acc_global, acc, iu = self.compute()
        return "global correct: {:.1f}\naverage row correct: {}\nIoU: {}\nmean IoU: {:.1f}".format(
            acc_global.item() * 100,
            [f"{i:.1f}" for i in (acc * 100).tolist()],
            [f"{i:.1f}" for i in (iu * 100).tolist()],
            iu.mean().item() * 100,
        )


def conv_bn(inp, out):
    return nn.Sequential(nn.Conv2d(inp, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.enc1 = nn.Sequential(conv_bn(3, 16), conv_bn(16, 16))
        self.enc2 = nn.Sequential(conv_bn(16, 32), conv_bn(32, 32))
        self.bottom = nn.Sequential(conv_bn(32, 48), conv_bn(48, 48))
        self.up2 = nn.ConvTranspose2d(48, 32, 2, stride=2)
        self.dec2 = conv_bn(64, 32)
        self.up1 = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.dec1 = conv_bn(32, 16)
        self.classifier = nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        x = self.bottom(F.max_pool2d(e2, 2))
        x = self.dec2(torch.cat([self.up2(x), e2], dim=1))
        x = self.dec1(torch.cat([self.up1(x), e1], dim=1))
        return self.classifier(x)


def criterion(inputs, target):
    return nn.functional.cross_entropy(inputs, target)


def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)
            confmat.update(target.flatten(), output.argmax(1).flatten())
    return confmat


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch):
    model.train()
    running, samples = 0.0, 0
    for image, target in data_loader:
        output = model(image)
        loss = criterion(output, target)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()

        running += loss.item() * image.shape[0]
        samples += image.shape[0]
    print(f"Epoch: [{epoch}] lr: {optimizer.param_groups[0]['lr']:.4f} loss: {running / samples:.4f}")


def main(epochs=12, batch_size=16, lr=0.05):
    random.seed(0)
    torch.manual_seed(0)

    dataset = ShapeSegmentation(True, 400, SegmentationPresetTrain())
    dataset_test = ShapeSegmentation(False, 100, SegmentationPresetEval())
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=50)

    model = UNet(NUM_CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    iters = len(data_loader) * epochs
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: max(1 - x / iters, 0) ** 0.9)

    start_time = time.time()
    for epoch in range(epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch)
        print(evaluate(model, data_loader_test, NUM_CLASSES))
    print(f"Training time {time.time() - start_time:.1f} s")


if __name__ == "__main__":
    main()
