# %% [markdown]
# # Which shapes are in the picture?  (baseline, CV only)
# Each picture shows two shapes side by side; all six kinds are to be tagged (multi-label, macro F1).

# %%
import copy
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


class CFG:
    seed = 2024
    n_images = 1000
    epochs = 15
    train_bs = 32
    valid_bs = 64
    lr = 2e-3
    weight_decay = 1e-4
    patience = 2


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)


# %% read the images (height x width x channels, as cv2.imread gives them) and the table of labels
def read_data(n):
    shapes = Shapes(train=True, count=2 * n)
    pictures = [torch.cat(pair, dim=2) for pair in zip(shapes.images[:n], shapes.images[n:])]
    pictures = np.stack([(p.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for p in pictures])
    onehot = np.zeros((n, len(NAMES)), dtype=np.int64)
    onehot[np.arange(n), shapes.targets[:n]] = 1
    onehot[np.arange(n), shapes.targets[n:]] = 1
    frame = pd.DataFrame(onehot, columns=NAMES)
    frame.insert(0, "image_id", np.arange(n))
    return pictures, frame


pictures, frame = read_data(CFG.n_images)
print(pictures.shape, frame[NAMES].mean().round(3).to_dict())


# %%
class TagDataset(Dataset):
    def __init__(self, frame, pictures, augment=False):
        self.ids = frame["image_id"].to_numpy()
        self.labels = frame[NAMES].to_numpy(dtype=np.float32)
        self.pictures = pictures
        self.augment = augment

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        image = self.pictures[self.ids[i]]
        if self.augment and random.random() < 0.5:
            image = image[:, ::-1]
        image = np.ascontiguousarray(image).astype(np.float32) / 255.0
        image = (image - 0.5) / 0.2
        image = torch.from_numpy(image).permute(2, 0, 1)
        return image, torch.from_numpy(self.labels[i])


class TagNet(nn.Module):
    def __init__(self, n_tags):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(64, n_tags)

    def forward(self, x):
        return self.fc(self.drop(self.body(x)))


# %%
def train_fn(net, loader, criterion, optimizer):
    net.train()
    running, n = 0.0, 0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(x)
        n += len(x)
    return running / n


def valid_fn(net, loader, criterion):
    net.eval()
    logits, labels = [], []
    with torch.no_grad():
        for x, y in loader:
            logits.append(net(x))
            labels.append(y)
    loss = criterion(torch.cat(logits), torch.cat(labels)).item()
    probs = torch.sigmoid(torch.cat(logits)).numpy()
    preds = (probs > 0.5).astype(int)
    y_true = torch.cat(labels).numpy().astype(int)
    return loss, f1_score(y_true, preds, average=None, zero_division=0)


# %%
train_df, valid_df = train_test_split(frame, test_size=0.2, random_state=CFG.seed)
train_loader = DataLoader(TagDataset(train_df, pictures, augment=True), batch_size=CFG.train_bs, shuffle=True)
valid_loader = DataLoader(TagDataset(valid_df, pictures), batch_size=CFG.valid_bs, shuffle=False)
print(len(train_df), "train", len(valid_df), "valid")

net = TagNet(len(NAMES))
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(net.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=CFG.patience)

best_f1, best_state = 0.0, copy.deepcopy(net.state_dict())
for epoch in range(CFG.epochs):
    train_loss = train_fn(net, train_loader, criterion, optimizer)
    valid_loss, f1 = valid_fn(net, valid_loader, criterion)
    scheduler.step(valid_loss)
    print(f"Epoch {epoch + 1:2d} | train {train_loss:.4f} | valid {valid_loss:.4f} | macro F1 {f1.mean():.4f}")
    if f1.mean() > best_f1:
        best_f1, best_state = f1.mean(), copy.deepcopy(net.state_dict())

# %%
net.load_state_dict(best_state)
_, f1 = valid_fn(net, valid_loader, criterion)
print(pd.Series(f1, index=NAMES).round(3))
print(f"CV: {f1.mean():.4f}")
