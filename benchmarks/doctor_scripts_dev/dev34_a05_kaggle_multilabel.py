# Shape tagging challenge - baseline, hold-out 20 %
# Each scene shows one to three shapes; predict which of six tags are present. Score: macro F1.
import copy
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

from toydata import COLORS, NAMES, shape_mask


class CFG:
    seed = 2024
    n_images = 1600
    size = 28
    rare_tag = 5  # blue cross
    rare_copies = 2
    epochs = 16
    batch_size = 32
    lr = 3e-3
    weight_decay = 1e-3
    dropout = 0.4
    threshold = 0.5


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class AverageMeter:
    def __init__(self):
        self.sum = self.count = 0

    def update(self, value, n):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / self.count


def make_scene(rng):
    """One to three shapes, each in a quarter of its own; the last tag is rarer than the others."""
    half = CFG.size // 2
    image = torch.full((3, CFG.size, CFG.size), 0.5)
    label = torch.zeros(len(NAMES))
    count = rng.integers(1, 4)
    for cell in rng.permutation(4)[:count]:
        tag = int(rng.choice(6, p=[0.18, 0.18, 0.18, 0.18, 0.18, 0.10]))
        color, kind = NAMES[tag].split()
        width = int(rng.integers(8, 13))
        top = int(cell // 2) * half + int(rng.integers(0, half - width + 1))
        left = int(cell % 2) * half + int(rng.integers(0, half - width + 1))
        image[:, shape_mask(kind, CFG.size, top, left, width)] = torch.tensor(COLORS[color])[:, None]
        label[tag] = 1.0
    noise = torch.from_numpy(rng.normal(0, 0.07, image.shape)).float()
    return (image + noise).clamp(0, 1), label


class SceneDataset(Dataset):
    def __init__(self, images, labels, augment=False):
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = (self.images[i] - 0.5) / 0.2
        if self.augment and random.random() < 0.5:
            image = image.flip(2)
        if self.augment and random.random() < 0.5:
            image = image.flip(1)
        return image, self.labels[i]


class TagNet(nn.Module):
    def __init__(self):
        super().__init__()

        def block(i, o):
            return [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

        self.body = nn.Sequential(
            *block(3, 16), nn.MaxPool2d(2), *block(16, 32), nn.MaxPool2d(2), *block(32, 64)
        )
        self.fc = nn.Sequential(nn.Dropout(CFG.dropout), nn.Linear(128, len(NAMES)))

    def forward(self, x):
        x = self.body(x)
        x = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        return self.fc(x)


def train_fn(model, loader, criterion, optimizer, scheduler):
    model.train()
    losses = AverageMeter()
    for images, labels in loader:
        logits = model(images)
        loss = criterion(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.update(loss.item(), len(images))
    return losses.avg


def valid_fn(model, loader, criterion):
    model.eval()
    losses, outputs, truth = AverageMeter(), [], []
    with torch.no_grad():
        for images, labels in loader:
            logits = model(images)
            losses.update(criterion(logits, labels).item(), len(images))
            outputs.append(torch.sigmoid(logits))
            truth.append(labels)
    preds = (torch.cat(outputs) > CFG.threshold).int().numpy()
    score = f1_score(torch.cat(truth).int().numpy(), preds, average="macro", zero_division=0)
    return losses.avg, score


seed_everything(CFG.seed)
rng = np.random.default_rng(CFG.seed)
scenes = [make_scene(rng) for _ in range(CFG.n_images)]
images = torch.stack([scene[0] for scene in scenes])
labels = torch.stack([scene[1] for scene in scenes])


def oversample(index):
    """The images with the rare tag come some more times."""
    rare = index[labels[index][:, CFG.rare_tag].numpy() == 1]
    return np.concatenate([index] + [rare] * CFG.rare_copies)


index = np.arange(CFG.n_images)
train_idx, valid_idx = train_test_split(index, test_size=0.2, random_state=CFG.seed)
train_idx = oversample(train_idx)
print("train", len(train_idx), "valid", len(valid_idx))

train_loader = DataLoader(
    SceneDataset(images[train_idx], labels[train_idx], augment=True), CFG.batch_size, shuffle=True, drop_last=True
)
valid_loader = DataLoader(SceneDataset(images[valid_idx], labels[valid_idx]), 64)

model = TagNet()
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CFG.epochs * len(train_loader))

best_score, best_state = 0.0, None
for epoch in range(CFG.epochs):
    train_loss = train_fn(model, train_loader, criterion, optimizer, scheduler)
    valid_loss, score = valid_fn(model, valid_loader, criterion)
    flag = ""
    if score > best_score:
        best_score, best_state, flag = score, copy.deepcopy(model.state_dict()), " *"
    print(f"[{epoch:02d}] train {train_loss:.4f} valid {valid_loss:.4f} F1 {score:.4f}{flag}", flush=True)
print(f"hold-out score: {best_score:.4f}")
