# %% [markdown]
# # Digit cards: which digits are on the card?
# Multi-label baseline (macro F1). Five folds are made, one is run here to stay in the time limit.

# %%
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

from toydata import draw_digits


class CFG:
    seed = 42
    n_cards = 1400
    n_folds = 5
    fold = 0
    batch_size = 64
    epochs = 14
    lr = 4e-3
    threshold = 0.5
    best_path = os.path.join(tempfile.mkdtemp(), "best.pt")


random.seed(CFG.seed)
np.random.seed(CFG.seed)
torch.manual_seed(CFG.seed)
TAGS = [str(d) for d in range(10)]

# %% [markdown]
# ## Data
# A card has four cells; one to three of them show a digit. Low digits are more frequent than high ones.


# %%
def make_cards(n, seed):
    glyphs, digits = draw_digits(1500, seed=seed, noise=0.05, shift=1)
    glyphs, digits = glyphs[:, 0].numpy(), digits.numpy()
    rng = np.random.default_rng(seed)
    p = np.linspace(1.5, 0.6, 10)[digits]
    p = p / p.sum()
    images, rows = np.zeros((n, 32, 32), dtype=np.uint8), []
    for i in range(n):
        tags = set()
        for cell in rng.choice(4, size=rng.integers(1, 4), replace=False):
            k = rng.choice(len(digits), p=p)
            y, x = 16 * (cell // 2), 16 * (cell % 2)
            images[i, y:y + 16, x:x + 16] = glyphs[k]
            tags.add(str(digits[k]))
        rows.append({"card_id": f"card_{i:05d}", "row": i, "tags": " ".join(sorted(tags))})
    return images, pd.DataFrame(rows)


def upsample_rare(frame):
    """Cards with one of the three rarest tags come twice."""
    rare = frame[TAGS].sum().nsmallest(3).index
    return pd.concat([frame, frame[frame[rare].any(axis=1)]], ignore_index=True)


cards, df = make_cards(CFG.n_cards, CFG.seed)
df = df.join(df["tags"].str.get_dummies(sep=" "))
print(df[TAGS].sum())

# %%
df["fold"] = -1
for fold, (_, val_rows) in enumerate(KFold(CFG.n_folds, shuffle=True, random_state=CFG.seed).split(df)):
    df.loc[val_rows, "fold"] = fold


class CardDataset(Dataset):
    def __init__(self, frame, augment=False):
        self.rows = frame["row"].values
        self.labels = frame[TAGS].values.astype(np.float32)
        self.augment = augment

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        img = torch.from_numpy(cards[self.rows[i]]).float()[None] / 255.0
        if self.augment:
            img = torch.roll(img, (random.randint(-1, 1), random.randint(-1, 1)), (1, 2))
            img = img * random.uniform(0.8, 1.2) + 0.03 * torch.randn_like(img)
        return (img - 0.06) / 0.2, torch.from_numpy(self.labels[i])


trn_df = upsample_rare(df[df["fold"] != CFG.fold])
val_df = df[df["fold"] == CFG.fold]
trn_loader = DataLoader(CardDataset(trn_df, augment=True), batch_size=CFG.batch_size, shuffle=True)
val_loader = DataLoader(CardDataset(val_df), batch_size=CFG.batch_size * 2, shuffle=False)


# %%
def cbr(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


class CardNet(nn.Module):
    def __init__(self, n_tags):
        super().__init__()
        self.features = nn.Sequential(
            cbr(1, 16), nn.MaxPool2d(2), cbr(16, 32), nn.MaxPool2d(2), cbr(32, 64), cbr(64, 64))
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(128, n_tags)

    def forward(self, x):
        h = self.features(x)
        h = torch.cat([h.amax((2, 3)), h.mean((2, 3))], dim=1)
        return self.fc(self.drop(h))


model = CardNet(len(TAGS))
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=1e-2)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=CFG.lr, epochs=CFG.epochs, steps_per_epoch=len(trn_loader))


# %%
def predict(net, loader):
    net.eval()
    preds, truth = [], []
    with torch.no_grad():
        for xb, yb in loader:
            preds.append(torch.sigmoid(net(xb)).numpy())
            truth.append(yb.numpy())
    return np.concatenate(preds), np.concatenate(truth)


best_f1 = -1.0
for epoch in range(CFG.epochs):
    model.train()
    running = 0.0
    for xb, yb in trn_loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item() * len(xb)
    preds, truth = predict(model, val_loader)
    f1 = f1_score(truth, preds > CFG.threshold, average="macro", zero_division=0)
    print(f"epoch {epoch:02d}  loss {running / len(trn_df):.4f}  val macro F1 {f1:.4f}")
    if f1 > best_f1:
        best_f1 = f1
        torch.save(model.state_dict(), CFG.best_path)

# %%
model.load_state_dict(torch.load(CFG.best_path))
preds, truth = predict(model, val_loader)
print(f"fold {CFG.fold}: best macro F1 {best_f1:.4f}, {(preds > CFG.threshold).sum(1).mean():.2f} tags a card")
