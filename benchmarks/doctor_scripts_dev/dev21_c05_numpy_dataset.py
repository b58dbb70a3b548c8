"""A small ResNet on a folder-like dataset of numpy images (height x width x 3, uint8), with transforms of our own."""

import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


class RandomHorizontalFlip:
    def __init__(self, p=0.5):
        self.p = p

    def __call__(self, image):
        return image[:, ::-1] if random.random() < self.p else image


class RandomCrop:
    def __init__(self, size, padding):
        self.size, self.padding = size, padding

    def __call__(self, image):
        p = self.padding
        image = np.pad(image, ((p, p), (p, p), (0, 0)), mode="constant", constant_values=128)
        top = random.randint(0, image.shape[0] - self.size)
        left = random.randint(0, image.shape[1] - self.size)
        return image[top : top + self.size, left : left + self.size]


class ToTensor:
    def __call__(self, image):
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, tensor):
        return (tensor - self.mean) / self.std


class ImageListDataset(Dataset):
    def __init__(self, samples, classes, transform=None):
        self.samples = samples  # (numpy image, class name)
        self.class_to_idx = {name: index for index, name in enumerate(sorted(classes))}
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image, name = self.samples[index]
        if self.transform:
            image = self.transform(image)
        return image, self.class_to_idx[name]


def samples_of(shapes):
    """What one would read from files."""
    images = [(image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for image in shapes.images]
    return list(zip(images, shapes.names))


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        nn.init.zeros_(self.bn2.weight)  # each block begins as its shortcut
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, num_classes, widths=(16, 32, 64)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        self.layer1 = BasicBlock(widths[0], widths[0])
        self.layer2 = BasicBlock(widths[0], widths[1], stride=2)
        self.layer3 = BasicBlock(widths[1], widths[2], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[2], num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


mean, std = (0.5, 0.45, 0.5), (0.17, 0.16, 0.17)
train_transform = Compose([RandomHorizontalFlip(), RandomCrop(16, padding=1), ToTensor(), Normalize(mean, std)])
test_transform = Compose([ToTensor(), Normalize(mean, std)])


def run_epoch(net, loader, criterion, optimizer=None):
    training = optimizer is not None
    net.train(training)
    loss_sum = correct = total = 0
    with torch.set_grad_enabled(training):
        for inputs, targets in loader:
            outputs = net(inputs)
            loss = criterion(outputs, targets)
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            loss_sum += loss.item() * targets.size(0)
            correct += outputs.max(1)[1].eq(targets).sum().item()
            total += targets.size(0)
    return loss_sum / total, 100.0 * correct / total


if __name__ == "__main__":
    random.seed(3)
    torch.manual_seed(3)
    trainset = ImageListDataset(samples_of(Shapes(train=True, count=2400)), NAMES, train_transform)
    testset = ImageListDataset(samples_of(Shapes(train=False, count=480)), NAMES, test_transform)
    trainloader = DataLoader(trainset, batch_size=64, shuffle=True)
    testloader = DataLoader(testset, batch_size=120, shuffle=False)

    net = ResNet(num_classes=len(NAMES))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[9, 13], gamma=0.1)

    for epoch in range(16):
        train_loss, train_acc = run_epoch(net, trainloader, criterion, optimizer)
        test_loss, test_acc = run_epoch(net, testloader, criterion)
        scheduler.step()
        print(f"Epoch {epoch}: train {train_loss:.3f} {train_acc:.1f}% | test {test_loss:.3f} {test_acc:.1f}%")
