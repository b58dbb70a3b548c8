# ====================================================
# Library
# ====================================================
import os
import random
import time

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.model_selection import StratifiedKFold
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


# ====================================================
# CFG
# ====================================================
class CFG:
    seed = 2021
    n_fold = 3
    trn_fold = [0, 1, 2]
    epochs = 8
    train_bs = 32
    valid_bs = 128
    max_lr = 4e-3
    weight_decay = 1e-5
    max_grad_norm = 5.0
    target_size = 10
    mean, std = 0.17, 0.31


def seed_everything(seed):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


# ====================================================
# Data: the digits from 5 on are rarer
# ====================================================
def load_data():
    images, labels = draw_digits(1800, seed=CFG.seed, noise=0.12)
    df = pd.DataFrame({"image_id": np.arange(len(labels)), "label": labels.numpy()})
    keep = (df["label"] < 5) | (df.groupby("label").cumcount() % 3 == 0)
    df = df[keep].reset_index(drop=True)
    df["fold"] = -1
    skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    for n, (_, val_index) in enumerate(skf.split(df, df["label"])):
        df.loc[val_index, "fold"] = n
    return images, df


class DigitDataset(Dataset):
    def __init__(self, df, images, augment=False):
        self.ids = df["image_id"].values
        self.labels = torch.tensor(df["label"].values, dtype=torch.long)
        self.images = images
        self.augment = augment

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, idx):
        image = self.images[self.ids[idx]].float() / 255
        if self.augment:
            dy, dx = random.randint(-1, 1), random.randint(-1, 1)
            image = torch.roll(image, (dy, dx), dims=(1, 2))
        return (image - CFG.mean) / CFG.std, self.labels[idx]


class CustomModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.fc = nn.Linear(32 * 4 * 4, CFG.target_size)

    def forward(self, x):
        return self.fc(self.backbone(x))


# ====================================================
# Helper functions
# ====================================================
def train_fn(train_loader, model, criterion, optimizer, scheduler):
    model.train()
    total, seen = 0.0, 0
    for images, labels in train_loader:
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        optimizer.step()
        scheduler.step()
        total += loss.detach() * len(labels)
        seen += len(labels)
    return float(total) / seen


def valid_fn(valid_loader, model):
    model.eval()
    preds = []
    with torch.no_grad():
        for images, _ in valid_loader:
            preds.append(model(images).double().softmax(1))
    return torch.cat(preds).numpy()


def train_loop(images, df, fold):
    trn, val = df[df["fold"] != fold], df[df["fold"] == fold]
    train_loader = DataLoader(DigitDataset(trn, images, augment=True), batch_size=CFG.train_bs, shuffle=True, drop_last=True)
    valid_loader = DataLoader(DigitDataset(val, images), batch_size=CFG.valid_bs, shuffle=False)

    model = CustomModel()
    criterion = nn.CrossEntropyLoss()
    optimizer = Adam(model.parameters(), lr=CFG.max_lr, weight_decay=CFG.weight_decay)
    scheduler = OneCycleLR(optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader))

    for epoch in range(CFG.epochs):
        start = time.time()
        avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
        preds = valid_fn(valid_loader, model)
        val_loss = log_loss(val["label"].values, preds, labels=list(range(CFG.target_size)))
        score = accuracy_score(val["label"].values, preds.argmax(1))
        print(f"Fold {fold} Epoch {epoch + 1} - avg_train_loss: {avg_loss:.4f}  avg_val_loss: {val_loss:.4f}  "
              f"Accuracy: {score:.4f}  time: {time.time() - start:.0f}s")
    return val.index.values, preds


# ====================================================
# main
# ====================================================
if __name__ == "__main__":
    seed_everything(CFG.seed)
    images, df = load_data()
    oof = np.zeros((len(df), CFG.target_size))
    for fold in CFG.trn_fold:
        val_index, preds = train_loop(images, df, fold)
        oof[val_index] = preds
    answer = oof.argmax(1)
    print(f"CV Accuracy: {accuracy_score(df['label'], answer):.4f}")
    print(f"CV macro F1: {f1_score(df['label'], answer, average='macro'):.4f}")
