# Shapes multilabel: which of six objects are on the picture? 3-fold CV baseline.
import os
import random
import tempfile

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import KFold
from torch.optim import AdamW
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset

import toydata


class CFG:
    seed = 2024
    n_fold = 3
    epochs = 14
    batch_size = 32
    lr = 3e-3
    weight_decay = 1e-4
    max_grad_norm = 10.0
    size = 16
    target_cols = list(toydata.NAMES)


OUTPUT_DIR = tempfile.mkdtemp()
MEAN = np.array([0.50, 0.44, 0.50], dtype=np.float32)
STD = np.array([0.20, 0.15, 0.20], dtype=np.float32)


def load_data(train, n):
    shapes = toydata.Shapes(train=train, count=2 * n, size=CFG.size)
    images, labels = [], np.zeros((n, len(CFG.target_cols)), dtype=np.float32)
    for i in range(n):
        canvas = torch.cat([shapes.images[2 * i], shapes.images[2 * i + 1]], dim=2)
        images.append((canvas.permute(1, 2, 0) * 255).round().byte().numpy())
        labels[i, [shapes.targets[2 * i], shapes.targets[2 * i + 1]]] = 1
    df = pd.DataFrame(labels, columns=CFG.target_cols)
    return np.stack(images), df


# Dataset & model
class ShapesDataset(Dataset):
    def __init__(self, images, df, augment=False):
        self.images, self.augment = images, augment
        self.labels = df[CFG.target_cols].values.astype(np.float32)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.images[idx].astype(np.float32) / 255.0
        if self.augment and random.random() < 0.5:
            image = image[:, ::-1]
        if self.augment and random.random() < 0.5:
            image = image[::-1]
        image = np.ascontiguousarray((image - MEAN) / STD)
        image = torch.from_numpy(image).permute(2, 0, 1)
        return image, torch.from_numpy(self.labels[idx])


class CustomNet(nn.Module):
    def __init__(self, target_size):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(64, target_size)

    def forward(self, x):
        return self.fc(self.dropout(self.backbone(x)))


def train_fn(loader, model, criterion, optimizer):
    model.train()
    total = 0.0
    for images, labels in loader:
        y_preds = model(images)
        loss = criterion(y_preds, labels)
        total += loss.item() * labels.size(0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return total / len(loader.dataset)


def inference_fn(loader, model):
    model.eval()
    preds = []
    with torch.no_grad():
        for images, _ in loader:
            y_preds = model(images)
            preds.append(y_preds.sigmoid().numpy())
    return np.concatenate(preds)


def get_score(y_true, y_prob):
    y_true = y_true.astype(int)
    f1 = f1_score(y_true, (y_prob > 0.5).astype(int), average="macro", zero_division=0)
    return average_precision_score(y_true, y_prob, average="macro"), f1


def train_loop(images, df, fold):
    trn_idx = np.flatnonzero(df["fold"].values != fold)
    val_idx = np.flatnonzero(df["fold"].values == fold)
    train_dataset = ShapesDataset(images[trn_idx], df.iloc[trn_idx], augment=True)
    valid_dataset = ShapesDataset(images[val_idx], df.iloc[val_idx])
    train_loader = DataLoader(train_dataset, batch_size=CFG.batch_size, shuffle=True)
    valid_loader = DataLoader(valid_dataset, batch_size=80)

    model = CustomNet(len(CFG.target_cols))
    optimizer = AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = ReduceLROnPlateau(optimizer, mode="max", factor=0.2, patience=1)
    criterion = nn.BCEWithLogitsLoss()

    best_score, best_preds = -1.0, None
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, criterion, optimizer)
        preds = inference_fn(valid_loader, model)
        score, f1 = get_score(valid_dataset.labels, preds)
        scheduler.step(score)
        print(f"Fold {fold} Epoch {epoch + 1} - loss: {avg_loss:.4f} mAP: {score:.4f} F1: {f1:.4f}")
        if score > best_score:
            best_score, best_preds = score, preds
            torch.save(model.state_dict(), os.path.join(OUTPUT_DIR, f"fold{fold}_best.pth"))
    return val_idx, best_preds


if __name__ == "__main__":
    random.seed(CFG.seed)
    torch.manual_seed(CFG.seed)
    images, df = load_data(train=True, n=720)
    test_images, test_df = load_data(train=False, n=200)
    df["fold"] = -1
    for n, (_, val_index) in enumerate(KFold(CFG.n_fold, shuffle=True, random_state=CFG.seed).split(df)):
        df.loc[val_index, "fold"] = n

    oof = np.zeros((len(df), len(CFG.target_cols)))
    for fold in range(CFG.n_fold):
        val_idx, preds = train_loop(images, df, fold)
        oof[val_idx] = preds
    print("CV  mAP %.4f F1 %.4f" % get_score(df[CFG.target_cols].values, oof))

    test_loader, test_preds = DataLoader(ShapesDataset(test_images, test_df), batch_size=80), []
    for fold in range(CFG.n_fold):
        net = CustomNet(len(CFG.target_cols))
        net.load_state_dict(torch.load(os.path.join(OUTPUT_DIR, f"fold{fold}_best.pth")))
        test_preds.append(inference_fn(test_loader, net))
    print("Test mAP %.4f F1 %.4f" % get_score(test_df[CFG.target_cols].values, np.mean(test_preds, axis=0)))
