"""Classification with localization: one network, two heads, boxes as fractions of the image."""

# %% imports
import random

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

torch.manual_seed(3)
random.seed(3)
np.random.seed(3)
torch.set_num_threads(1)


# %% data
class BoxDataset(Dataset):
    def __init__(self, train):
        self.shapes = Shapes(train=train, size=24, count=1800 if train else 240)
        self.augment = train

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, i):
        image, label = self.shapes[i]
        box = self.shapes.boxes[i].clone()
        if self.augment and random.random() < 0.5:
            image = torch.flip(image, dims=[2])
            box[[0, 2]] = 1 - box[[2, 0]]
        if self.augment and random.random() < 0.5:
            image = torch.flip(image, dims=[1])
            box[[1, 3]] = 1 - box[[3, 1]]
        return (image - 0.5) / 0.25, label, box


train_dl = DataLoader(BoxDataset(True), batch_size=32, shuffle=True)
valid_dl = DataLoader(BoxDataset(False), batch_size=60)


# %% model
class BB_model(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        )
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(32 * 6 * 6, 128), nn.ReLU())
        self.classifier = nn.Linear(128, len(NAMES))
        self.bb = nn.Linear(128, 4)

    def forward(self, x):
        x = self.neck(self.features(x))
        return self.classifier(x), self.bb(x).sigmoid()


def iou(a, b):
    left_top = torch.maximum(a[:, :2], b[:, :2])
    right_bottom = torch.minimum(a[:, 2:], b[:, 2:])
    inter = (right_bottom - left_top).clamp(min=0).prod(1)
    area = lambda box: (box[:, 2:] - box[:, :2]).clamp(min=0).prod(1)  # noqa: E731
    return inter / (area(a) + area(b) - inter).clamp(min=1e-6)


def val_metrics(model, valid_dl):
    model.eval()
    total, sum_iou, correct = 0, 0.0, 0
    with torch.no_grad():
        for x, y_class, y_bb in valid_dl:
            out_class, out_bb = model(x)
            total += len(x)
            sum_iou += iou(out_bb, y_bb).sum().item()
            correct += (out_class.argmax(1) == y_class).sum().item()
    return sum_iou / total, correct / total


# %% training
model = BB_model()
epochs = 14
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, epochs=epochs, steps_per_epoch=len(train_dl))
class_loss = nn.CrossEntropyLoss()
box_loss = nn.SmoothL1Loss(beta=0.05)

for epoch in range(epochs):
    model.train()
    seen, running = 0, 0.0
    for x, y_class, y_bb in train_dl:
        out_class, out_bb = model(x)
        loss = class_loss(out_class, y_class) + 10 * box_loss(out_bb, y_bb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item() * len(x)
        seen += len(x)
    mean_iou, accuracy = val_metrics(model, valid_dl)
    print(f"epoch {epoch:2d}  train_loss {running / seen:.3f}  val_iou {mean_iou:.3f}  val_acc {accuracy:.3f}")
