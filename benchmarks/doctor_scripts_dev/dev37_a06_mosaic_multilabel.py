# %% [code]
import os
import random
import tempfile

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import f1_score
from sklearn.model_selection import KFold
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


# %% [code]
class CFG:
    seed = 2024
    n_images = 1400
    n_folds = 5
    valid_fold = 0
    batch_size = 32
    epochs = 12
    max_lr = 0.1
    weight_decay = 1e-4
    max_grad_norm = 5.0
    mixup_prob = 0.5
    mixup_alpha = 0.4
    threshold = 0.5
    device = "cuda" if torch.cuda.is_available() else "cpu"


# %% [code]
def build_competition_data(n):
    """Mosaics of 2 x 2 cells with one to three shapes; the labels say which of the six shapes are there."""
    rng = np.random.default_rng(0)
    tiles = Shapes(train=True, count=3 * n, size=16)
    images = 0.5 + 0.08 * rng.standard_normal((n, 3, 32, 32))
    labels = np.zeros((n, len(NAMES)), dtype=np.float32)
    used = 0
    for i in range(n):
        k = rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15])
        for cell in rng.permutation(4)[:k]:
            top, left = 16 * (cell // 2), 16 * (cell % 2)
            images[i, :, top:top + 16, left:left + 16] = tiles.images[used].numpy()
            labels[i, tiles.targets[used]] = 1
            used += 1
    df = pd.DataFrame(labels, columns=NAMES)
    df.insert(0, "image_id", np.arange(n))
    return df, images.clip(0, 1).astype(np.float32)


class MosaicDataset(Dataset):
    def __init__(self, df, images, augment=False):
        self.images = images[df["image_id"].values]
        self.labels = df[NAMES].values.astype(np.float32)
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        x = torch.from_numpy(self.images[idx])
        if self.augment and random.random() < 0.5:
            x = x.flip(2)
        return (x - 0.5) / 0.17, torch.from_numpy(self.labels[idx])


# %% [code]
def block(inp, out):
    return [nn.Conv2d(inp, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]


class MosaicModel(nn.Module):
    def __init__(self, n_labels):
        super().__init__()
        self.encoder = nn.Sequential(
            *block(3, 12), nn.MaxPool2d(2), *block(12, 32), nn.MaxPool2d(2), *block(32, 64), nn.AdaptiveMaxPool2d(1)
        )
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(64, n_labels)

    def forward(self, x):
        return self.head(self.drop(self.encoder(x).flatten(1)))


def mixup(x, y):
    lam = float(np.random.beta(CFG.mixup_alpha, CFG.mixup_alpha))
    index = torch.randperm(x.size(0), device=x.device)
    mixed_x = lam * x + (1 - lam) * x[index]
    mixed_y = lam * y + (1 - lam) * y[index]
    return mixed_x, mixed_y


# %% [code]
def train_fn(loader, model, criterion, optimizer, scheduler, scaler):
    model.train()
    total, seen = 0.0, 0
    for x, y in loader:
        x, y = x.to(CFG.device), y.to(CFG.device)
        if random.random() < CFG.mixup_prob:
            x, y = mixup(x, y)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device_type=CFG.device, dtype=torch.float16, enabled=CFG.device == "cuda"):
            loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        total += loss.item() * len(x)
        seen += len(x)
    return total / seen


def valid_fn(loader, model):
    model.eval()
    preds, truth = [], []
    with torch.no_grad():
        for x, y in loader:
            logits = model(x.to(CFG.device))
            preds.append((torch.sigmoid(logits) > CFG.threshold).cpu())
            truth.append(y)
    preds, truth = torch.cat(preds).int().numpy(), torch.cat(truth).int().numpy()
    return f1_score(truth, preds, average="macro", zero_division=0)


# %% [code]
if __name__ == "__main__":
    random.seed(CFG.seed)
    np.random.seed(CFG.seed)
    torch.manual_seed(CFG.seed)
    df, images = build_competition_data(CFG.n_images)
    df["fold"] = -1
    for fold, (_, rows) in enumerate(KFold(CFG.n_folds, shuffle=True, random_state=CFG.seed).split(df)):
        df.loc[rows, "fold"] = fold
    train_df = df[df["fold"] != CFG.valid_fold]
    valid_df = df[df["fold"] == CFG.valid_fold]
    train_ds = MosaicDataset(train_df, images, augment=True)
    train_loader = DataLoader(train_ds, batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(MosaicDataset(valid_df, images), batch_size=70, shuffle=False)

    model = MosaicModel(len(NAMES)).to(CFG.device)
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=CFG.max_lr, momentum=0.9, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, CFG.max_lr, total_steps=CFG.epochs * len(train_loader))
    scaler = torch.amp.GradScaler(CFG.device)

    best_f1, best_path = 0.0, os.path.join(tempfile.mkdtemp(), "best.pth")
    for epoch in range(CFG.epochs):
        loss = train_fn(train_loader, model, criterion, optimizer, scheduler, scaler)
        f1 = valid_fn(valid_loader, model)
        print(f"Epoch {epoch + 1:2d} - loss {loss:.4f} - macro F1 {f1:.4f}")
        if f1 > best_f1:
            best_f1 = f1
            torch.save(model.state_dict(), best_path)
    print(f"Fold {CFG.valid_fold} best macro F1 {best_f1:.4f}")
