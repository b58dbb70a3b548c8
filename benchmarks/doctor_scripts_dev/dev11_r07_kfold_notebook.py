# %% [markdown]
# Baseline: is there a red cross in the tile? 4 folds, weighted sampler, best threshold for F1.

# %%
import os
import random
import tempfile

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from toydata import Shapes


# %%
class CFG:
    seed = 2024
    n_folds = 4
    epochs = 6
    batch_size = 32
    lr = 3e-3
    min_lr_factor = 0.05
    weight_decay = 1e-4
    positive = 2  # "red cross"
    noise = 0.25
    output_dir = tempfile.mkdtemp()


def seed_everything(seed):
    os.environ["PYTHONHASHSEED"] = str(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# %%
shapes = Shapes(train=True, count=1200)
images = np.stack([image.numpy() for image in shapes.images]).astype(np.float32)
images = images + CFG.noise * np.random.randn(*images.shape).astype(np.float32)
labels = (np.array(shapes.targets) == CFG.positive).astype(np.float32)
print("tiles:", images.shape, "positives:", int(labels.sum()))


def stratified_folds(y, n_folds, seed):
    rng = np.random.default_rng(seed)
    fold = np.zeros(len(y), dtype=int)
    for value in np.unique(y):
        index = np.flatnonzero(y == value)
        rng.shuffle(index)
        fold[index] = np.arange(len(index)) % n_folds
    return fold


folds = stratified_folds(labels, CFG.n_folds, CFG.seed)


# %%
class TileDataset(Dataset):
    def __init__(self, images, labels, train):
        self.images, self.labels, self.train = images, labels, train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.from_numpy((self.images[index] - 0.5) / 0.3)
        if self.train and random.random() < 0.5:
            image = image.flip(-1)
        if self.train and random.random() < 0.5:
            image = image.flip(-2)
        return image, torch.tensor(self.labels[index])


class TileModel(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )
        self.head = nn.Linear(2 * width, 1)

    def forward(self, x):
        return self.head(self.body(x)).squeeze(1)


# %%
def f1_score(y, pred):
    tp = float(((pred == 1) & (y == 1)).sum())
    return 2 * tp / max(float(pred.sum() + y.sum()), 1.0)


def auc_score(y, score):
    rank = np.empty(len(score))
    rank[np.argsort(score)] = np.arange(1, len(score) + 1)
    pos, neg = y.sum(), (1 - y).sum()
    return float((rank[y == 1].sum() - pos * (pos + 1) / 2) / (pos * neg))


def best_threshold(y, prob):
    grid = np.arange(0.05, 0.96, 0.05)
    scores = [f1_score(y, (prob > t).astype(int)) for t in grid]
    return float(grid[int(np.argmax(scores))]), float(np.max(scores))


def make_sampler(y):
    class_sample_count = np.array([(y == t).sum() for t in (0, 1)])
    class_weights = 1.0 / class_sample_count
    samples_weight = torch.from_numpy(class_weights[y.astype(int)])
    return WeightedRandomSampler(samples_weight, num_samples=len(y), replacement=True)


def train_fn(model, loader, optimizer, criterion):
    model.train()
    total = 0.0
    for x, y in loader:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    return total / len(loader.dataset)


@torch.no_grad()
def valid_fn(model, loader, criterion):
    model.eval()
    probs, total = [], 0.0
    for x, y in loader:
        logits = model(x)
        total += criterion(logits, y).item() * len(y)
        probs.append(logits.sigmoid())
    return total / len(loader.dataset), torch.cat(probs).numpy()


# %%
oof = np.zeros(len(labels), dtype=np.float32)
for fold in range(CFG.n_folds):
    train_idx, valid_idx = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    train_set = TileDataset(images[train_idx], labels[train_idx], train=True)
    valid_set = TileDataset(images[valid_idx], labels[valid_idx], train=False)
    train_loader = DataLoader(train_set, batch_size=CFG.batch_size, sampler=make_sampler(labels[train_idx]), drop_last=True)
    valid_loader = DataLoader(valid_set, batch_size=100, shuffle=False)

    model = TileModel()
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=1)
    best_auc, path = 0.0, os.path.join(CFG.output_dir, f"fold{fold}.pth")
    for epoch in range(CFG.epochs):
        train_loss = train_fn(model, train_loader, optimizer, criterion)
        valid_loss, prob = valid_fn(model, valid_loader, criterion)
        auc = auc_score(labels[valid_idx], prob)
        f1 = f1_score(labels[valid_idx], (prob > 0.5).astype(int))
        scheduler.step(auc)
        print(f"fold {fold} epoch {epoch}  train {train_loss:.4f}  valid {valid_loss:.4f}  auc {auc:.4f}  f1@0.5 {f1:.4f}")
        if auc > best_auc:
            best_auc = auc
            torch.save(model.state_dict(), path)
    model.load_state_dict(torch.load(path))
    oof[valid_idx] = valid_fn(model, valid_loader, criterion)[1]

# %%
threshold, score = best_threshold(labels, oof)
np.save(os.path.join(CFG.output_dir, "oof.npy"), oof)
print(f"OOF auc {auc_score(labels, oof):.4f}  f1 {score:.4f} at {threshold:.2f}")
