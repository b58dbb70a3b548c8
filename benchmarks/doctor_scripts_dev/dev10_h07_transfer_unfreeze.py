"""Transfer: a backbone learned on six names is reused for three forms, first with a new head only, then all with graded rates."""
import copy
import os
import tempfile

import torch
import torch.nn as nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Subset

from toydata import Shapes

torch.manual_seed(7)
MEAN, STD = 0.49, 0.18


def normalize(image):
    return (image - MEAN) / STD


class Forms:
    """Photographic negatives of such pictures, labeled by form alone: square 0, disc 1, cross 2."""

    def __init__(self, base):
        self.base = base

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, target = self.base[index]
        return -image, target % 3


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2))
        self.layer2 = nn.Sequential(nn.Conv2d(48, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 6)

    def forward(self, x):
        return self.fc(self.pool(self.layer2(self.layer1(self.stem(x)))).flatten(1))


def train_model(model, loaders, criterion, optimizer, scheduler, num_epochs, frozen=()):
    best, best_acc = copy.deepcopy(model.state_dict()), 0.0
    for epoch in range(num_epochs):
        for phase in ("train", "val"):
            if phase == "train":
                model.train()
                for module in frozen:  # what is frozen keeps its statistics too
                    module.eval()
            else:
                model.eval()
            running_loss, corrects, seen = 0.0, 0, 0
            for inputs, labels in loaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.detach() * len(labels)
                corrects += (outputs.argmax(1) == labels).sum()
                seen += len(labels)
            if phase == "train":
                scheduler.step()
            acc = float(corrects) / seen
            print(f"{epoch} {phase:5s} loss {float(running_loss) / seen:.4f} acc {acc:.4f}")
            if phase == "val" and acc > best_acc:
                best, best_acc = copy.deepcopy(model.state_dict()), acc
    model.load_state_dict(best)
    return best_acc


def main():
    folder = tempfile.TemporaryDirectory()
    path = os.path.join(folder.name, "backbone.pth")
    criterion = nn.CrossEntropyLoss()

    print("-- source task")
    source = {"train": DataLoader(Shapes(train=True, transform=normalize), 60, shuffle=True),
              "val": DataLoader(Shapes(train=False, transform=normalize), 120)}
    model = Backbone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    train_model(model, source, criterion, optimizer, lr_scheduler.CosineAnnealingLR(optimizer, 8), 8)
    torch.save(model.state_dict(), path)

    print("-- target task: head only")
    target = {"train": DataLoader(Subset(Forms(Shapes(train=True, transform=normalize)), range(600)), 60, shuffle=True),
              "val": DataLoader(Forms(Shapes(train=False, transform=normalize)), 120)}
    model = Backbone()
    model.load_state_dict(torch.load(path))
    model.fc = nn.Linear(64, 3)
    body = [model.stem, model.layer1, model.layer2]
    for module in body:
        module.requires_grad_(False)
    optimizer = torch.optim.Adam(model.fc.parameters(), lr=1e-2)
    train_model(model, target, criterion, optimizer, lr_scheduler.StepLR(optimizer, 3, 0.3), 4, frozen=body)

    print("-- target task: all layers")
    for module in body:
        module.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [{"params": model.stem.parameters(), "lr": 3e-4},
         {"params": model.layer1.parameters(), "lr": 8e-4},
         {"params": model.layer2.parameters(), "lr": 1.5e-3},
         {"params": model.fc.parameters(), "lr": 3e-3}], weight_decay=1e-2)
    acc = train_model(model, target, criterion, optimizer, lr_scheduler.CosineAnnealingLR(optimizer, 8), 8)
    print(f"best val acc {acc:.4f}")


if __name__ == "__main__":
    main()
