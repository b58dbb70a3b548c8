"""Transfer learning (after the PyTorch tutorial): a small ResNet learns digits, then is tuned for few shapes."""

import copy
import os
import tempfile
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Subset

from toydata import NAMES, Digits, Shapes

torch.set_num_threads(1)


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + identity)


class ResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.layer1 = BasicBlock(16, 16)
        self.layer2 = BasicBlock(16, 32, stride=2)
        self.layer3 = BasicBlock(32, 48, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(48, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(self.avgpool(x).flatten(1))


def train_model(model, dataloaders, criterion, optimizer, scheduler, num_epochs):
    since = time.time()
    best_acc, best_weights = 0.0, copy.deepcopy(model.state_dict())
    for epoch in range(num_epochs):
        report = f"Epoch {epoch + 1}/{num_epochs}"
        for phase in ["train", "val"]:
            model.train(phase == "train")
            running_loss, running_corrects, seen = 0.0, 0, 0
            for inputs, labels in dataloaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    preds = outputs.argmax(1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels).item()
                seen += inputs.size(0)
            if phase == "train":
                scheduler.step()
            epoch_acc = running_corrects / seen
            report += f"  {phase} loss {running_loss / seen:.4f} acc {epoch_acc:.4f}"
            if phase == "val" and epoch_acc > best_acc:
                best_acc, best_weights = epoch_acc, copy.deepcopy(model.state_dict())
        print(report)
    print(f"done in {time.time() - since:.0f}s, best val acc {best_acc:.4f}")
    model.load_state_dict(best_weights)
    return model


def digit_transform(image):
    color = (image.float() / 255).expand(3, -1, -1)
    return (color - 0.2) / 0.3


def shape_train_transform(image):
    for axis in (-1, -2):
        if torch.rand(()) < 0.5:
            image = image.flip(axis)
    return shape_transform(image)


def shape_transform(image):
    return (image - 0.5) / 0.25


def main():
    torch.manual_seed(8)
    criterion = nn.CrossEntropyLoss()
    source = {
        "train": DataLoader(Digits(train=True, transform=digit_transform), batch_size=32, shuffle=True),
        "val": DataLoader(Digits(train=False, transform=digit_transform), batch_size=100),
    }
    model = ResNet(10)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    model = train_model(model, source, criterion, optimizer, lr_scheduler.StepLR(optimizer, 4, gamma=0.2), 6)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "digits.pt")
        torch.save(model.state_dict(), path)
        weights = torch.load(path, weights_only=True)

    model_ft = ResNet(len(NAMES))
    kept = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    result = model_ft.load_state_dict(kept, strict=False)
    print("left at random:", result.missing_keys, "not used:", result.unexpected_keys)
    target = {
        "train": DataLoader(Subset(Shapes(train=True, transform=shape_train_transform), range(500)), 20, shuffle=True),
        "val": DataLoader(Shapes(train=False, transform=shape_transform), batch_size=80),
    }
    body = [p for name, p in model_ft.named_parameters() if not name.startswith("fc.")]
    optimizer = optim.SGD(
        [{"params": body, "lr": 0.01}, {"params": model_ft.fc.parameters(), "lr": 0.05}], momentum=0.9, weight_decay=1e-4
    )
    train_model(model_ft, target, criterion, optimizer, lr_scheduler.CosineAnnealingLR(optimizer, 16), 16)


if __name__ == "__main__":
    main()
