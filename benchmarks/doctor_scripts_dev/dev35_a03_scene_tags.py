# %% [markdown]
# # Which shapes are in the scene?
# Multi-label baseline: small CNN, OneCycle, flip TTA. Scenes hold up to three of six objects.

# %%
import copy
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

CFG = dict(seed=42, scenes=1000, epochs=10, batch_size=32, max_lr=0.05, weight_decay=5e-4, max_norm=5.0)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG["seed"])


# %%
def make_scenes(count, seed):
    """Gray scenes of 32 x 32 with one to three cells of 16 x 16 filled; blue crosses are rare."""
    rng = np.random.default_rng(seed)
    pool = Shapes(count=3 * count, size=16)
    images = np.clip(0.5 + 0.08 * rng.standard_normal((count, 3, 32, 32)), 0, 1).astype("float32")
    labels = np.zeros((count, len(NAMES)), dtype=int)
    supply = iter(range(len(pool)))
    for scene in range(count):
        for cell in rng.permutation(4)[: rng.integers(1, 4)]:
            image, name = pool[next(supply)]
            if NAMES[name] == "blue cross" and rng.random() < 0.7:
                continue
            top, left = 16 * (int(cell) // 2), 16 * (int(cell) % 2)
            images[scene, :, top : top + 16, left : left + 16] = image.numpy()
            labels[scene, name] = 1
    return images, labels


IMAGES, LABELS = make_scenes(CFG["scenes"], seed=2020)
df = pd.DataFrame(LABELS, columns=NAMES)
df["scene_id"] = np.arange(len(df))
print(df[NAMES].mean().round(3))

# %%
train_df, valid_df = train_test_split(df, test_size=0.2, random_state=CFG["seed"])
rare = train_df[train_df["blue cross"] == 1]
train_df = pd.concat([train_df, rare, rare], ignore_index=True)
print(f"train: {len(train_df)}  valid: {len(valid_df)}")


class SceneDataset(Dataset):
    def __init__(self, frame, augment=False):
        self.ids = frame["scene_id"].to_numpy()
        self.labels = frame[NAMES].to_numpy(dtype="float32")
        self.augment = augment

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        image = (torch.from_numpy(IMAGES[self.ids[i]]) - 0.48) / 0.18
        if self.augment:
            if random.random() < 0.5:
                image = image.flip(-1)
            if random.random() < 0.5:
                image = image.flip(-2)
        return image, torch.from_numpy(self.labels[i])


train_loader = DataLoader(SceneDataset(train_df, augment=True), batch_size=CFG["batch_size"], shuffle=True)
valid_loader = DataLoader(SceneDataset(valid_df), batch_size=100, shuffle=False)


# %%
class SceneNet(nn.Module):
    def __init__(self, n_out=len(NAMES)):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(64, n_out))

    def forward(self, x):
        return self.head(self.features(x))


model = SceneNet().to(DEVICE)
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.SGD(
    model.parameters(), lr=CFG["max_lr"], momentum=0.9, nesterov=True, weight_decay=CFG["weight_decay"])
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=CFG["max_lr"], epochs=CFG["epochs"], steps_per_epoch=len(train_loader))
scaler = torch.amp.GradScaler(DEVICE.type)


# %%
def train_fn(loader):
    model.train()
    running = 0.0
    for x, y in loader:
        x, y = x.to(DEVICE), y.to(DEVICE)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE.type, enabled=DEVICE.type == "cuda"):
            loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), CFG["max_norm"])
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        running += loss.item() * len(x)
    return running / len(loader.dataset)


@torch.no_grad()
def predict_fn(loader):
    model.eval()
    outputs, targets = [], []
    for x, y in loader:
        x = x.to(DEVICE)
        outputs.append(((model(x) + model(x.flip(-1))) / 2).float().cpu())
        targets.append(y)
    return torch.cat(outputs), torch.cat(targets)


# %%
best_f1, best_state = -1.0, None
for epoch in range(CFG["epochs"]):
    train_loss = train_fn(train_loader)
    logits, targets = predict_fn(valid_loader)
    valid_loss = criterion(logits, targets).item()
    probs = torch.sigmoid(logits)
    preds = (probs > 0.5).int()
    f1 = f1_score(targets.int().numpy(), preds.numpy(), average="macro", zero_division=0)
    auc = roc_auc_score(targets.numpy(), probs.numpy(), average="macro")
    print(f"epoch {epoch + 1:02d}  train {train_loss:.4f}  valid {valid_loss:.4f}  F1 {f1:.4f}  AUC {auc:.4f}")
    if f1 > best_f1:
        best_f1, best_state = f1, copy.deepcopy(model.state_dict())

model.load_state_dict(best_state)
print(f"CV score (macro F1): {best_f1:.4f}")
