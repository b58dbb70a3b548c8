import datetime
import random
import time

import torch
import torch.utils.data
from torch import nn

from toydata import Shapes


class SegmentationPresetTrain:
    def __init__(self, mean, std, flip_prob=0.5):
        self.mean, self.std, self.flip_prob = mean, std, flip_prob

    def __call__(self, image, target):
        for axis in (-1, -2):
            if random.random() < self.flip_prob:
                image, target = image.flip(axis), target.flip(axis)
        return (image - self.mean) / self.std, target


class SegmentationPresetEval:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


class ShapeSegmentation(torch.utils.data.Dataset):
    def __init__(self, image_set, transforms):
        train = image_set == "train"
        self.source = Shapes(train=train, count=400 if train else 120, size=24)
        self.transforms = transforms

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        return self.transforms(self.source.images[index], self.source.masks[index])


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros((num_classes, num_classes), dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        inds = n * a.to(torch.int64) + b
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
            acc_global.item() * 100, [f"{i:.1f}" for i in (acc * 100).tolist()],
            [f"{i:.1f}" for i in (iu * 100).tolist()], iu.mean().item() * 100)


def double_conv(inplanes, planes):
    return nn.Sequential(
        nn.Conv2d(inplanes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes), nn.ReLU(inplace=True),
        nn.Conv2d(planes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.down1 = double_conv(3, width)
        self.down2 = double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec2 = double_conv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec1 = double_conv(2 * width, width)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.bottom(self.pool(b))
        b = self.dec2(torch.cat([self.up2(c), b], dim=1))
        a = self.dec1(torch.cat([self.up1(b), a], dim=1))
        return self.classifier(a)


def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)
            confmat.update(target.flatten(), output.argmax(1).flatten())
    return confmat


def train_one_epoch(model, criterion, optimizer, data_loader, lr_scheduler, epoch):
    model.train()
    total = 0.0
    for i, (image, target) in enumerate(data_loader):
        output = model(image)
        loss = criterion(output, target)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()

        total += loss.item()
    print(f"Epoch: [{epoch}]  lr: {optimizer.param_groups[0]['lr']:.5f}  loss: {total / len(data_loader):.4f}")


def main():
    random.seed(0)
    torch.manual_seed(0)
    epochs, batch_size, num_classes = 12, 16, 4
    mean = torch.tensor([0.5, 0.46, 0.5]).view(3, 1, 1)
    std = torch.tensor([0.17, 0.13, 0.17]).view(3, 1, 1)

    dataset = ShapeSegmentation("train", SegmentationPresetTrain(mean, std))
    dataset_test = ShapeSegmentation("val", SegmentationPresetEval(mean, std))
    data_loader = torch.utils.data.DataLoader(
        dataset, batch_size=batch_size, sampler=torch.utils.data.RandomSampler(dataset), drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=40)

    model = UNet(num_classes)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=1e-4)
    total_iters = epochs * len(data_loader)
    lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=total_iters, power=0.9)

    start_time = time.time()
    for epoch in range(epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, lr_scheduler, epoch)
        if (epoch + 1) % 4 == 0:
            print(evaluate(model, data_loader_test, num_classes))
    print(f"Training time {datetime.timedelta(seconds=int(time.time() - start_time))}")


if __name__ == "__main__":
    main()
