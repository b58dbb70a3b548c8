# Which shapes are in the picture? Multi-label baseline: simple CNN, 3 folds, OneCycle [inference at the end]
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

OUTPUT_DIR = tempfile.mkdtemp()


class CFG:
    seed = 42
    n_fold = 3
    epochs = 8
    batch_size = 32
    lr = 4e-3
    weight_decay = 1e-2
    mean = np.array([0.50, 0.45, 0.50], dtype=np.float32)
    std = np.array([0.19, 0.14, 0.19], dtype=np.float32)
    target_cols = NAMES


# ==================== Data: two shapes side by side, height x width x 3, uint8, as cv2.imread gives it
def load_data(train, count):
    shapes = Shapes(train=train, count=2 * count, size=16)
    images, labels = [], np.zeros((count, len(NAMES)), dtype=np.float32)
    for i in range(count):
        pair = torch.cat([shapes.images[2 * i], shapes.images[2 * i + 1]], dim=2)
        images.append((pair.permute(1, 2, 0).numpy() * 255).astype(np.uint8))
        labels[i, [shapes.targets[2 * i], shapes.targets[2 * i + 1]]] = 1
    df = pd.DataFrame(labels, columns=CFG.target_cols)
    df["image_id"] = np.arange(count)
    return np.stack(images), df


class TrainDataset(Dataset):
    def __init__(self, df, images, augment=False):
        self.ids = df["image_id"].values
        self.labels = torch.from_numpy(df[CFG.target_cols].values.astype(np.float32))
        self.images = images
        self.augment = augment

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, idx):
        image = self.images[self.ids[idx]].astype(np.float32) / 255
        if self.augment:
            if random.random() < 0.5:
                image = image[:, ::-1]
            if random.random() < 0.5:
                image = image[::-1]
        image = (image - CFG.mean) / CFG.std
        image = np.ascontiguousarray(image.transpose(2, 0, 1))
        return torch.from_numpy(image), self.labels[idx]


# ==================== Model
def conv_block(in_channels, out_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()
    )


class ShapeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            conv_block(3, 16), nn.MaxPool2d(2), conv_block(16, 32), nn.MaxPool2d(2), conv_block(32, 64), conv_block(64, 64)
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(128, len(CFG.target_cols))

    def forward(self, x):
        x = self.backbone(x)
        x = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return self.head(self.dropout(x))


# ==================== Helper functions
def get_score(labels, outputs):
    probs = torch.sigmoid(outputs)
    preds = (probs > 0.5).int()
    return f1_score(labels.astype(int), preds.numpy(), average="macro", zero_division=0)


def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    total = 0.0
    for images, labels in loader:
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(images)
    return total / len(loader.dataset)


@torch.no_grad()
def inference(model, loader):
    model.eval()
    return torch.cat([model(images) for images, _ in loader])


def train_loop(fold, df, images, test_loader):
    train_part, valid_part = df[df["fold"] != fold], df[df["fold"] == fold]
    train_loader = DataLoader(TrainDataset(train_part, images, augment=True), batch_size=CFG.batch_size, shuffle=True)
    valid_loader = DataLoader(TrainDataset(valid_part, images), batch_size=100, shuffle=False)
    valid_labels = valid_part[CFG.target_cols].values

    model = ShapeNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader)
    )
    criterion = nn.BCEWithLogitsLoss()

    best_score, path = -1.0, os.path.join(OUTPUT_DIR, f"fold{fold}_best.pth")
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
        score = get_score(valid_labels, inference(model, valid_loader))
        print(f"Fold {fold} Epoch {epoch + 1} - avg_train_loss: {avg_loss:.4f}  F1: {score:.4f}")
        if score > best_score:
            best_score = score
            torch.save(model.state_dict(), path)

    model.load_state_dict(torch.load(path, weights_only=True))
    return valid_part.index.values, inference(model, valid_loader), inference(model, test_loader)


if __name__ == "__main__":
    random.seed(CFG.seed)
    torch.manual_seed(CFG.seed)
    train_images, train_df = load_data(train=True, count=900)
    test_images, test_df = load_data(train=False, count=240)
    test_loader = DataLoader(TrainDataset(test_df, test_images), batch_size=100, shuffle=False)

    train_df["fold"] = -1
    kfold = KFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    for n, (_, val_index) in enumerate(kfold.split(train_df)):
        train_df.loc[val_index, "fold"] = n

    oof, test_outputs = torch.zeros(len(train_df), len(CFG.target_cols)), []
    for fold in range(CFG.n_fold):
        val_index, val_outputs, fold_outputs = train_loop(fold, train_df, train_images, test_loader)
        oof[val_index] = val_outputs
        test_outputs.append(fold_outputs)

    print(f"CV  F1: {get_score(train_df[CFG.target_cols].values, oof):.4f}")
    print(f"LB  F1: {get_score(test_df[CFG.target_cols].values, torch.stack(test_outputs).mean(0)):.4f}")
