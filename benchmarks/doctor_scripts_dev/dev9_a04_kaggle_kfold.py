#!/usr/bin/env python
# coding: utf-8

# # Digit Recognizer - 3-fold CNN baseline (if you like it, please upvote!)

# In[1]:

import copy
import gc
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


class CFG:
    seed = 42
    n_splits = 3
    epochs = 7
    train_bs = 32
    valid_bs = 128
    lr = 2e-3
    T_0 = 7
    weight_decay = 1e-5
    max_grad_norm = 10.0


# In[2]:

def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# In[3]:

images, labels = draw_digits(1100, seed=5, noise=0.25)
X = images.numpy().squeeze(1)
y = labels.numpy()
print(X.shape, np.bincount(y))


# In[4]:

class DigitDataset(Dataset):
    def __init__(self, X, y, augment=False):
        self.X, self.y, self.augment = X, y, augment

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        img = self.X[i].astype(np.float32) / 255.0
        if self.augment:
            img = np.roll(img, (random.randint(-1, 1), random.randint(-1, 1)), axis=(0, 1))
        return {"image": torch.from_numpy(img.copy()).unsqueeze(0), "label": torch.tensor(self.y[i], dtype=torch.long)}


# In[5]:

class DigitModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.BatchNorm2d(1),
            nn.Conv2d(1, 16, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(32 * 16, 10))

    def forward(self, image):
        return self.head(self.backbone(image))


# In[6]:

def train_fn(loader, model, criterion, optimizer, scheduler, epoch):
    model.train()
    running = 0.0
    for step, batch in enumerate(loader):
        optimizer.zero_grad(set_to_none=True)
        y_preds = model(batch["image"])
        loss = criterion(y_preds, batch["label"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        optimizer.step()
        scheduler.step(epoch + step / len(loader))
        running += loss.item()
    return running / len(loader)


@torch.no_grad()
def valid_fn(loader, model, criterion):
    model.eval()
    preds, total, n = [], 0.0, 0
    for batch in loader:
        y_preds = model(batch["image"])
        total += criterion(y_preds, batch["label"]).item() * len(batch["label"])
        n += len(batch["label"])
        preds.append(y_preds.softmax(1).numpy())
    return total / n, np.concatenate(preds)


# In[7]:

oof = np.zeros((len(X), 10))
skf = StratifiedKFold(n_splits=CFG.n_splits, shuffle=True, random_state=CFG.seed)
criterion = nn.CrossEntropyLoss()

for fold, (trn_idx, val_idx) in enumerate(skf.split(X, y)):
    print(f"========== fold: {fold} training ==========")
    train_loader = DataLoader(DigitDataset(X[trn_idx], y[trn_idx], augment=True), batch_size=CFG.train_bs, shuffle=True, drop_last=True)
    valid_loader = DataLoader(DigitDataset(X[val_idx], y[val_idx]), batch_size=CFG.valid_bs, shuffle=False)
    model = DigitModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=CFG.T_0, eta_min=1e-6)

    best_loss = np.inf
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler, epoch)
        val_loss, preds = valid_fn(valid_loader, model, criterion)
        score = accuracy_score(y[val_idx], preds.argmax(1))
        print(f"Epoch {epoch + 1} - avg_train_loss: {avg_loss:.4f}  avg_val_loss: {val_loss:.4f}  Score: {score:.4f}")
        if val_loss < best_loss:
            best_loss = val_loss
            best_state = copy.deepcopy(model.state_dict())
            print(f"Epoch {epoch + 1} - Save Best Loss: {best_loss:.4f} Model")
    model.load_state_dict(best_state)
    oof[val_idx] = valid_fn(valid_loader, model, criterion)[1]
    del optimizer, scheduler
    gc.collect()

# In[8]:

print(f"CV: {accuracy_score(y, oof.argmax(1)):.4f}")
