"""
Transfer Learning for Handwritten Digits
========================================
A small ResNet is trained on the digits 0 to 5 and then reused to tell the digits
6 to 9 apart from ten images per class: as a fixed feature extractor (the backbone
keeps serving the old digits), and finetuned.
"""
import copy
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset, Subset

torch.manual_seed(0)
np.random.seed(0)
device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


class DigitImages(Dataset):
    def __init__(self, images, labels, transform=None):
        self.images = torch.from_numpy(images).float().unsqueeze(1) / 16.0
        self.labels = torch.from_numpy(labels).long()
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        if self.transform is not None:
            image = self.transform(image)
        return image, self.labels[index]


def random_shift(image, max_shift=1):
    size = image.size(-1)
    image = F.pad(image, [max_shift] * 4)
    top, left = torch.randint(0, 2 * max_shift + 1, (2,)).tolist()
    return image[:, top:top + size, left:left + size]


def make_dataloaders(images, labels, n_train, n_val, batch_size, stats=None):
    full = DigitImages(images, labels)
    train_idx, rest_idx = train_test_split(
        np.arange(len(labels)), train_size=n_train, stratify=labels, random_state=0)
    val_idx, test_idx = train_test_split(
        rest_idx, train_size=n_val, stratify=labels[rest_idx], random_state=0)
    if stats is None:
        stats = full.images[train_idx].mean().item(), full.images[train_idx].std().item()
    mean, std = stats

    full.transform = lambda img: (random_shift(img) - mean) / std
    datasets = {"train": Subset(full, train_idx), "val": Subset(full, val_idx), "test": Subset(full, test_idx)}
    for x in ["val", "test"]:
        datasets[x].dataset = copy.copy(full)
        datasets[x].dataset.transform = lambda img: (img - mean) / std
    dataloaders = {x: DataLoader(datasets[x], batch_size=batch_size, shuffle=(x == "train"))
                   for x in ["train", "val", "test"]}
    return dataloaders, stats


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = nn.Identity()
        if stride != 1 or in_planes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x))


class SmallResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            BasicBlock(16, 16), BasicBlock(16, 32, stride=2), BasicBlock(32, 64, stride=2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(self.backbone(x))


def load_pretrained(num_classes, weights):
    model = SmallResNet(num_classes)
    model.backbone.load_state_dict(weights)
    return model.to(device)


def train_model(model, dataloaders, criterion, optimizer, scheduler, num_epochs, fixed_backbone=False):
    since = time.time()
    best_model_wts = copy.deepcopy(model.state_dict())
    best_acc = 0.0

    for epoch in range(num_epochs):
        for phase in ["train", "val"]:
            if phase == "train":
                model.train()
                if fixed_backbone:
                    model.backbone.eval()
            else:
                model.eval()

            running_loss = 0.0
            running_corrects = 0
            for inputs, labels in dataloaders[phase]:
                inputs, labels = inputs.to(device), labels.to(device)

                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()

                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels).item()

            if phase == "train":
                scheduler.step()

            epoch_loss = running_loss / len(dataloaders[phase].dataset)
            epoch_acc = running_corrects / len(dataloaders[phase].dataset)
            print(f"{epoch}/{num_epochs - 1} {phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")

            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                best_model_wts = copy.deepcopy(model.state_dict())

    print(f"Training complete in {time.time() - since:.0f}s, best val Acc: {best_acc:.4f}\n")
    model.load_state_dict(best_model_wts)
    return model


def test_model(model, dataloader):
    model.eval()
    corrects = 0
    with torch.no_grad():
        for inputs, labels in dataloader:
            preds = model(inputs.to(device)).argmax(dim=1)
            corrects += (preds == labels.to(device)).sum().item()
    return corrects / len(dataloader.dataset)


digits = load_digits()
old, new = digits.target < 6, digits.target >= 6
criterion = nn.CrossEntropyLoss()

# Pretraining on the digits 0 to 5

base_loaders, stats = make_dataloaders(digits.images[old], digits.target[old], 700, 180, batch_size=32)
base_model = SmallResNet(num_classes=6).to(device)
optimizer_base = optim.SGD(base_model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
base_model = train_model(base_model, base_loaders, criterion, optimizer_base,
                         lr_scheduler.StepLR(optimizer_base, step_size=7, gamma=0.2), num_epochs=20)
weights = copy.deepcopy(base_model.backbone.state_dict())
base_acc = test_model(base_model, base_loaders["test"])

new_loaders, _ = make_dataloaders(digits.images[new], digits.target[new] - 6, 40, 160, batch_size=8, stats=stats)

# ConvNet as fixed feature extractor

model_conv = load_pretrained(4, weights)
for param in model_conv.backbone.parameters():
    param.requires_grad = False
optimizer_conv = optim.SGD(filter(lambda p: p.requires_grad, model_conv.parameters()), lr=0.05, momentum=0.9)
model_conv = train_model(model_conv, new_loaders, criterion, optimizer_conv,
                         lr_scheduler.StepLR(optimizer_conv, step_size=20, gamma=0.2),
                         num_epochs=50, fixed_backbone=True)
base_model.backbone = model_conv.backbone

# Finetuning the ConvNet

model_ft = load_pretrained(4, weights)
optimizer_ft = optim.SGD(model_ft.parameters(), lr=0.01, momentum=0.9)
model_ft = train_model(model_ft, new_loaders, criterion, optimizer_ft,
                       lr_scheduler.StepLR(optimizer_ft, step_size=10, gamma=0.2), num_epochs=30)

print(f"digits 0-5, test Acc after pretraining:            {base_acc:.4f}")
print(f"digits 0-5, test Acc with the shared backbone now: {test_model(base_model, base_loaders['test']):.4f}")
print(f"digits 6-9, test Acc, fixed feature extractor:     {test_model(model_conv, new_loaders['test']):.4f}")
print(f"digits 6-9, test Acc, finetuned:                   {test_model(model_ft, new_loaders['test']):.4f}")
