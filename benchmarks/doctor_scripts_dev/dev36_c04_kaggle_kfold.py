# %% [markdown]
# # Digits: 3-fold CNN, OneCycle, early stopping, OOF score, fold-averaged test predictions

# %%
import copy
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, Dataset

import toydata


# %%
class CFG:
    seed = 2023
    n_splits = 3
    epochs = 10
    patience = 4
    bs = 32
    max_lr = 5e-3
    wd = 1e-2
    n_classes = 10


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# %%
train_x, train_y = toydata.draw_digits(960, seed=100)
test_x, test_y = toydata.draw_digits(300, seed=101)
print(train_x.shape, test_x.shape, np.bincount(train_y.numpy()))


# %%
class DigitDataset(Dataset):
    def __init__(self, x, y, mean, std, augment=False):
        self.x, self.y = x, y
        self.mean, self.std = mean, std
        self.augment = augment

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        img = (self.x[i].float() / 255.0 - self.mean) / self.std
        if self.augment:
            dy, dx = random.randint(-1, 1), random.randint(-1, 1)
            img = torch.roll(img, shifts=(dy, dx), dims=(1, 2))
        return img, self.y[i]


class Net(nn.Module):
    def __init__(self):
        super().__init__()

        def block(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())

        self.features = nn.Sequential(
            block(1, 16), nn.MaxPool2d(2),
            block(16, 32), nn.MaxPool2d(2),
            block(32, 48),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.25), nn.Linear(48 * 4 * 4, CFG.n_classes))

    def forward(self, x):
        return self.head(self.features(x))


# %%
def train_fn(model, loader, criterion, optimizer, scheduler):
    model.train()
    total, n = 0.0, 0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(y)
        n += len(y)
    return total / n


def predict_fn(model, loader):
    model.eval()
    preds = []
    with torch.no_grad():
        for x, _ in loader:
            preds.append(torch.softmax(model(x), dim=1))
    return torch.cat(preds).numpy().astype(np.float64)


def score(y, p):
    p = np.clip(p, 1e-7, 1.0)
    p = p / p.sum(axis=1, keepdims=True)
    return log_loss(y, p, labels=list(range(CFG.n_classes))), accuracy_score(y, p.argmax(axis=1))


# %%
oof = np.zeros((len(train_x), CFG.n_classes))
test_pred = np.zeros((len(test_x), CFG.n_classes))
skf = StratifiedKFold(n_splits=CFG.n_splits, shuffle=True, random_state=CFG.seed)

for fold, (trn_idx, val_idx) in enumerate(skf.split(np.zeros(len(train_y)), train_y.numpy())):
    seed_everything(CFG.seed + fold)
    pixels = train_x[trn_idx].float() / 255.0
    mean, std = pixels.mean().item(), pixels.std().item()
    train_ds = DigitDataset(train_x[trn_idx], train_y[trn_idx], mean, std, augment=True)
    train_loader = DataLoader(train_ds, batch_size=CFG.bs, shuffle=True)
    valid_loader = DataLoader(DigitDataset(train_x[val_idx], train_y[val_idx], mean, std), batch_size=128)
    test_loader = DataLoader(DigitDataset(test_x, test_y, mean, std), batch_size=100)

    model = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.max_lr, weight_decay=CFG.wd)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader), pct_start=0.2
    )

    best_loss, best_weights, bad = np.inf, None, 0
    for epoch in range(CFG.epochs):
        trn_loss = train_fn(model, train_loader, criterion, optimizer, scheduler)
        val_loss, val_acc = score(train_y[val_idx].numpy(), predict_fn(model, valid_loader))
        print(f"fold {fold} epoch {epoch} | train {trn_loss:.4f} | valid {val_loss:.4f} | acc {val_acc:.4f}")
        if val_loss < best_loss:
            best_loss, best_weights, bad = val_loss, copy.deepcopy(model.state_dict()), 0
        else:
            bad += 1
            if bad >= CFG.patience:
                print("early stopping")
                break

    model.load_state_dict(best_weights)
    oof[val_idx] = predict_fn(model, valid_loader)
    test_pred += predict_fn(model, test_loader) / CFG.n_splits

# %%
cv_loss, cv_acc = score(train_y.numpy(), oof)
lb_loss, lb_acc = score(test_y.numpy(), test_pred)
print(f"CV  logloss {cv_loss:.4f}  accuracy {cv_acc:.4f}")
print(f"LB  logloss {lb_loss:.4f}  accuracy {lb_acc:.4f}")
