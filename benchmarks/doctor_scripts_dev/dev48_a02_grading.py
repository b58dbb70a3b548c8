# %% [markdown]
# # Grading of eye photographs: five ordered grades, K - 1 cumulative logits, quadratic kappa

# %% [code]
import copy
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import cohen_kappa_score, confusion_matrix
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, Dataset


class CFG:
    seed = 42
    size = 32
    n_images = 900
    n_grades = 5
    n_folds = 5
    batch_size = 32
    epochs = 12
    max_lr = 4e-3
    weight_decay = 1e-4


ORDER = {"none": 0, "mild": 1, "moderate": 2, "severe": 3, "proliferative": 4}


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)


# %% [code]
def draw_eye(grade, rng, size):
    yy, xx = np.mgrid[:size, :size]
    center = (size - 1) / 2
    inside = (yy - center) ** 2 + (xx - center) ** 2 <= (size / 2 - 1) ** 2
    eye = np.zeros((size, size, 3), dtype=np.float32)
    eye[inside] = np.array([0.60, 0.30, 0.15]) * rng.uniform(0.85, 1.15)
    for _ in range(2 * grade + int(rng.integers(0, 2))):
        radius, angle = (size / 2 - 4) * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        top, left = int(center + radius * np.sin(angle)), int(center + radius * np.cos(angle))
        eye[top:top + 2, left:left + 2] = (0.95, 0.85, 0.45)
    eye = eye + rng.normal(0, 0.04, eye.shape)
    return (eye.clip(0, 1) * 255).astype(np.uint8)


rng = np.random.default_rng(CFG.seed)
diagnoses = rng.choice(list(ORDER), size=CFG.n_images, p=[0.30, 0.20, 0.20, 0.16, 0.14])
images = np.stack([draw_eye(ORDER[d], rng, CFG.size) for d in diagnoses])
df = pd.DataFrame({"id_code": [f"eye_{i:04d}" for i in range(CFG.n_images)], "diagnosis": diagnoses})
df["level"] = df["diagnosis"].map(ORDER)

# %% [code]
skf = StratifiedKFold(n_splits=CFG.n_folds, shuffle=True, random_state=CFG.seed)
trn_idx, val_idx = next(skf.split(df, df["diagnosis"]))
trn_df = df.iloc[trn_idx].reset_index(drop=True)
val_df = df.iloc[val_idx].reset_index(drop=True)

MEAN = (images[trn_idx] / 255.0).mean(axis=(0, 1, 2))
STD = (images[trn_idx] / 255.0).std(axis=(0, 1, 2))


class EyeDataset(Dataset):
    def __init__(self, images, levels, augment):
        self.images, self.levels, self.augment = images, levels, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.images[idx].astype(np.float32) / 255.0
        if self.augment:
            image = np.rot90(image, k=random.randint(0, 3))
            if random.random() < 0.5:
                image = image[:, ::-1]
            image = image * random.uniform(0.8, 1.2) + np.random.normal(0, 0.05, image.shape)
        image = ((image - MEAN) / STD).astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), int(self.levels[idx])


trn_ds = EyeDataset(images[trn_idx], trn_df["level"].values, augment=True)
val_ds = EyeDataset(images[val_idx], val_df["level"].values, augment=False)
trn_loader = DataLoader(trn_ds, batch_size=CFG.batch_size, shuffle=True, drop_last=True)
val_loader = DataLoader(val_ds, batch_size=60, shuffle=False)


# %% [code]
def stage(cin, cout):
    return [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]


class GradeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *stage(3, 16), nn.MaxPool2d(2), *stage(16, 32), nn.MaxPool2d(2), *stage(32, 64), nn.AdaptiveAvgPool2d(1)
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(64, CFG.n_grades - 1),
        )

    def forward(self, x):
        return self.head(self.features(x))


def to_cumulative(level):
    """Grade 3 of 0..4 becomes 1, 1, 1, 0: whether it is above each of the grades 0 to 3."""
    return (level[:, None] > torch.arange(CFG.n_grades - 1)).float()


def decode(logits):
    return (torch.sigmoid(logits) > 0.5).sum(dim=1)


model = GradeNet()
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.max_lr, weight_decay=CFG.weight_decay)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(trn_loader)
)

# %% [code]
best_kappa, best_state, best_pred = -1.0, None, None
for epoch in range(CFG.epochs):
    model.train()
    running = 0.0
    for xb, yb in trn_loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), to_cumulative(yb))
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item()

    model.eval()
    preds, trues = [], []
    with torch.no_grad():
        for xb, yb in val_loader:
            preds.append(decode(model(xb)))
            trues.append(yb)
    preds, trues = torch.cat(preds).numpy(), torch.cat(trues).numpy()
    kappa = cohen_kappa_score(trues, preds, weights="quadratic")
    print(f"epoch {epoch:2d} | loss {running / len(trn_loader):.4f} | acc {(preds == trues).mean():.3f} | QWK {kappa:.4f}")
    if kappa > best_kappa:
        best_kappa, best_state, best_pred = kappa, copy.deepcopy(model.state_dict()), preds

# %% [code]
print("best QWK:", round(best_kappa, 4))
print(confusion_matrix(trues, best_pred))
