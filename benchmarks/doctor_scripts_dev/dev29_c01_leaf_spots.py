# # Leaf disease baseline  (public notebook, v7)
# healthy / rust / blight / mildew, small CNN, macro F1

import copy
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import confusion_matrix, f1_score
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

SEED = 2021
SIZE = 32
BATCH = 32
EPOCHS = 15
CLASSES = ["healthy", "rust", "blight", "mildew"]

random.seed(SEED)
np.random.seed(SEED)
torch.manual_seed(SEED)

# ## 1. Images


def make_leaf(kind, rng):
    yy, xx = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    cy, cx = 16 + rng.uniform(-2, 2, 2)
    a, b = rng.uniform(11, 14), rng.uniform(8, 12)
    leaf = ((yy - cy) / a) ** 2 + ((xx - cx) / b) ** 2 < 1
    image = np.empty((SIZE, SIZE, 3), np.float32)
    image[:] = (0.35, 0.30, 0.25)
    image[leaf] = np.array([0.2, 0.55, 0.2]) * rng.uniform(0.85, 1.15)
    spots = {
        "healthy": (0, 0, 0.0, (0, 0, 0)),
        "rust": (rng.integers(5, 10), 1.5, 1.0, (0.8, 0.45, 0.1)),
        "blight": (rng.integers(1, 3), 4.5, 0.9, (0.35, 0.22, 0.1)),
        "mildew": (rng.integers(4, 7), 2.5, 0.7, (0.9, 0.9, 0.9)),
    }
    count, radius, strength, color = spots[kind]
    for _ in range(count):
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.7)
        sy, sx = cy + a * distance * np.sin(angle), cx + b * distance * np.cos(angle)
        spot = leaf & ((yy - sy) ** 2 + (xx - sx) ** 2 <= radius**2)
        image[spot] = (1 - strength) * image[spot] + strength * np.array(color)
    image += rng.normal(0, 0.04, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8)


rng = np.random.default_rng(SEED)
labels = rng.integers(0, 4, 1600)
images = np.stack([make_leaf(CLASSES[k], rng) for k in labels])
train_idx, val_idx = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=SEED)

mean = images[train_idx].reshape(-1, 3).mean(0) / 255
std = images[train_idx].reshape(-1, 3).std(0) / 255
print("train", len(train_idx), "val", len(val_idx), "mean", mean.round(3), "std", std.round(3))

# ## 2. Dataset


class LeafDataset(Dataset):
    def __init__(self, images, labels, augment=False):
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        x = (self.images[i].astype(np.float32) / 255 - mean) / std
        x = torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)
        if self.augment:
            if random.random() < 0.5:
                x = x.flip(-1)
            if random.random() < 0.5:
                x = x.flip(-2)
        return x, int(self.labels[i])


train_loader = DataLoader(LeafDataset(images[train_idx], labels[train_idx], True), batch_size=BATCH, shuffle=True)
val_loader = DataLoader(LeafDataset(images[val_idx], labels[val_idx]), batch_size=BATCH * 2, shuffle=False)

# ## 3. Model


def block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))


model = nn.Sequential(
    block(3, 16), block(16, 32), block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 4)
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

# ## 4. Training

best_f1, best_state, best_preds = 0.0, None, None
for epoch in range(EPOCHS):
    model.train()
    total = 0.0
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    scheduler.step()

    model.eval()
    preds, trues = [], []
    with torch.no_grad():
        for x, y in val_loader:
            preds.append(model(x).argmax(1))
            trues.append(y)
    preds, trues = torch.cat(preds).numpy(), torch.cat(trues).numpy()
    f1 = f1_score(trues, preds, average="macro")
    print(f"epoch {epoch + 1:2d}  loss {total / len(train_idx):.4f}  val macro-F1 {f1:.4f}")
    if f1 > best_f1:
        best_f1, best_state, best_preds = f1, copy.deepcopy(model.state_dict()), preds

model.load_state_dict(best_state)
print("best macro-F1", round(best_f1, 4))
print(confusion_matrix(trues, best_preds))
