# %% [markdown]
# # Shapes multi-label: 4-fold CV baseline (CNN, pos_weight, OOF macro F1)

# %%
import os
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import KFold
from torch.utils.data import DataLoader, Dataset


class CFG:
    seed = 2023
    n_samples = 1200
    size = 28
    target_cols = ['circle', 'square', 'cross', 'stripe']
    prevalence = [0.45, 0.30, 0.15, 0.10]
    label_flip = 0.04          # annotators are not perfect
    n_fold = 4
    trn_fold = [0, 1, 2, 3]
    epochs = 6
    batch_size = 32
    lr = 4e-3
    weight_decay = 1e-4
    threshold = 0.5


# %%
def seed_everything(seed):
    random.seed(seed)
    os.environ['PYTHONHASHSEED'] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def stamp(img, kind, rng):
    yy, xx = np.mgrid[:CFG.size, :CFG.size]
    cy, cx = rng.uniform(6, CFG.size - 6, 2)
    r = rng.uniform(3.5, 5.5)
    dy, dx = yy - cy, xx - cx
    box = np.maximum(abs(dy), abs(dx))
    mask = {
        'circle': abs(np.sqrt(dy ** 2 + dx ** 2) - r) < 1.0,
        'square': abs(box - r) < 1.0,
        'cross': (box < r) & (np.minimum(abs(dy - dx), abs(dy + dx)) < 1.3),
        'stripe': (box < r) & (np.round(dy).astype(int) % 3 == 0),
    }[kind]
    img[mask] += rng.uniform(90, 150)


def make_train(n):
    rng = np.random.RandomState(CFG.seed)
    labels = (rng.rand(n, len(CFG.target_cols)) < CFG.prevalence).astype(np.float32)
    images = rng.normal(60, 18, (n, CFG.size, CFG.size))
    for img, row in zip(images, labels):
        for kind, present in zip(CFG.target_cols, row):
            if present:
                stamp(img, kind, rng)
    flips = rng.rand(*labels.shape) < CFG.label_flip
    labels = np.where(flips, 1 - labels, labels).astype(np.float32)
    return images.clip(0, 255).astype(np.uint8), labels


# %%
class TrainDataset(Dataset):
    def __init__(self, images, labels, augment=False):
        self.images = images
        self.labels = labels
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.images[idx].astype(np.float32) / 255.
        image = (image - 0.3) / 0.2
        if self.augment:
            if random.random() < 0.5:
                image = image[:, ::-1]
            if random.random() < 0.5:
                image = image[::-1]
        return torch.from_numpy(image.copy()).unsqueeze(0), torch.from_numpy(self.labels[idx])


class CustomModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        def block(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))
        self.encoder = nn.Sequential(block(1, 16), block(16, 32), block(32, 48))
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(48, len(cfg.target_cols))

    def forward(self, x):
        x = self.pool(self.encoder(x)).flatten(1)
        return self.fc(self.drop(x))


# %%
def get_pos_weight(labels):
    pos = labels.sum(axis=0)
    neg = len(labels) - pos
    return torch.tensor(np.sqrt(neg / pos), dtype=torch.float32)


def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    losses = []
    for images, labels in loader:
        y_preds = model(images)
        loss = criterion(y_preds, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return np.mean(losses)


def valid_fn(loader, model):
    model.eval()
    preds = []
    for images, _ in loader:
        with torch.no_grad():
            y_preds = model(images)
        preds.append(y_preds.sigmoid().numpy())
    return np.concatenate(preds)


def get_result(labels, preds):
    f1 = f1_score(labels, preds > CFG.threshold, average='macro', zero_division=0)
    return f1, roc_auc_score(labels, preds, average='macro')


def build(cfg, n_steps):
    model = CustomModel(cfg)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=cfg.lr, total_steps=n_steps)
    return model, optimizer, scheduler


def train_loop(images, labels, trn_idx, val_idx, fold):
    print(f'========== fold: {fold} training ==========')
    trn_ds = TrainDataset(images[trn_idx], labels[trn_idx], augment=True)
    val_ds = TrainDataset(images[val_idx], labels[val_idx])
    trn_loader = DataLoader(trn_ds, batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_ds, batch_size=CFG.batch_size * 4, shuffle=False)

    model, optimizer, scheduler = build(CFG, CFG.epochs * len(trn_loader))
    criterion = nn.BCEWithLogitsLoss(pos_weight=get_pos_weight(labels[trn_idx]))

    for epoch in range(CFG.epochs):
        avg_loss = train_fn(trn_loader, model, criterion, optimizer, scheduler)
        preds = valid_fn(val_loader, model)
        f1, auc = get_result(labels[val_idx], preds)
        print(f'Epoch {epoch + 1} - avg_train_loss: {avg_loss:.4f}  f1: {f1:.4f}  auc: {auc:.4f}')
    return preds


# %%
def main():
    seed_everything(CFG.seed)
    images, labels = make_train(CFG.n_samples)
    print('prevalence:', dict(zip(CFG.target_cols, labels.mean(0).round(3))))

    folds = KFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    oof = np.zeros_like(labels)
    for fold, (trn_idx, val_idx) in enumerate(folds.split(images)):
        if fold in CFG.trn_fold:
            oof[val_idx] = train_loop(images, labels, trn_idx, val_idx, fold)

    f1, auc = get_result(labels, oof)
    print(f'========== CV ==========\nOOF f1: {f1:.4f}  auc: {auc:.4f}')


if __name__ == '__main__':
    main()
