# Churn of customers: entity embeddings + MLP, 3 stratified folds, out-of-fold AUC
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, TensorDataset

SEED = 2024
N_FOLDS = 3
EPOCHS = 14
BATCH_SIZE = 64
LR = 5e-3


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_customers(n=1500):
    rng = np.random.default_rng(SEED)
    frame = pd.DataFrame(
        {
            "region": rng.choice(["north", "south", "east", "west", "islands", "capital"], n),
            "plan": rng.choice(["basic", "plus", "family", "business"], n, p=[0.4, 0.3, 0.2, 0.1]),
            "device": rng.choice(["phone", "tablet", "router", "legacy", "none"], n),
            "payment": rng.choice(["card", "invoice", "direct"], n),
            "age": rng.integers(18, 80, n),
            "tenure": rng.exponential(24, n).round(1),
            "monthly_fee": rng.normal(35, 12, n).clip(5).round(2),
            "support_calls": rng.poisson(1.5, n),
        }
    )
    regional = {"north": -0.6, "south": 0.6, "east": -0.2, "west": 0.1, "islands": 1.0, "capital": -0.9}
    score = (
        frame["plan"].map({"basic": 1.2, "plus": 0.0, "family": -1.2, "business": -0.6}).astype(float)
        + frame["region"].map(regional).astype(float)
        + 1.5 * ((frame["device"] == "legacy") & (frame["plan"] != "family")).astype(float)
        + 0.8 * (frame["support_calls"] - 1.5)
        - 0.04 * (frame["tenure"] - 24)
        + 0.04 * (frame["monthly_fee"] - 35)
    )
    frame["churn"] = (rng.random(n) < 1 / (1 + np.exp(3.2 - 1.5 * score.to_numpy()))).astype(int)
    return frame


class TabularNet(nn.Module):
    def __init__(self, sizes, n_cont, hidden=(64, 32), dropout=0.25):
        super().__init__()
        self.embeds = nn.ModuleList([nn.Embedding(size, min(8, (size + 1) // 2)) for size in sizes])
        width = sum(embed.embedding_dim for embed in self.embeds) + n_cont
        layers = []
        for units in hidden:
            layers += [nn.Linear(width, units), nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(dropout)]
            width = units
        self.mlp = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, cats, conts):
        embedded = [embed(cats[:, i]) for i, embed in enumerate(self.embeds)]
        return self.mlp(torch.cat(embedded + [conts], dim=1)).squeeze(1)


def fit_categories(frame):
    # 0 is kept for values that were not seen
    return {c: {value: i + 1 for i, value in enumerate(frame[c].unique())} for c in CATS}


def to_tensors(frame, mapping, mean, std):
    cats = np.stack([frame[c].map(mapping[c]).fillna(0).to_numpy(np.int64) for c in CATS], axis=1)
    conts = ((frame[CONTS] - mean) / std).to_numpy(np.float32)
    target = frame["churn"].to_numpy(np.float32)
    return TensorDataset(torch.from_numpy(cats), torch.from_numpy(conts), torch.from_numpy(target))


def train_epoch(model, loader, criterion, optimizer, scheduler):
    model.train()
    total = 0.0
    for cats, conts, target in loader:
        optimizer.zero_grad()
        loss = criterion(model(cats, conts), target)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(target)
    return total / len(loader.dataset)


def predict(model, loader):
    model.eval()
    outputs = []
    with torch.no_grad():
        for cats, conts, _ in loader:
            outputs.append(torch.sigmoid(model(cats, conts)))
    return torch.cat(outputs).numpy()


seed_everything(SEED)
df = make_customers()
CATS = ["region", "plan", "device", "payment"]
CONTS = [c for c in df.columns if c not in CATS and c != "churn"]
print(df.shape, f"churn rate {df['churn'].mean():.3f}")

oof = np.zeros(len(df))
folds = StratifiedKFold(n_splits=N_FOLDS, shuffle=True, random_state=SEED)
for fold, (train_idx, valid_idx) in enumerate(folds.split(df, df["churn"])):
    train_df, valid_df = df.iloc[train_idx], df.iloc[valid_idx]
    mapping = fit_categories(train_df)
    mean, std = train_df[CONTS].mean(), train_df[CONTS].std()
    train_set = to_tensors(train_df, mapping, mean, std)
    valid_set = to_tensors(valid_df, mapping, mean, std)
    train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=256)

    model = TabularNet([len(mapping[c]) + 1 for c in CATS], len(CONTS))
    n_pos = int(train_df["churn"].sum())
    n_neg = len(train_df) - n_pos
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(n_neg / n_pos))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS * len(train_loader))

    for epoch in range(EPOCHS):
        train_loss = train_epoch(model, train_loader, criterion, optimizer, scheduler)
        probs = predict(model, valid_loader)
        auc = roc_auc_score(valid_df["churn"], probs)
        if epoch % 4 == 0 or epoch == EPOCHS - 1:
            print(f"fold {fold} epoch {epoch:2d}  loss {train_loss:.4f}  valid AUC {auc:.4f}")
    oof[valid_idx] = probs

labels = oof > 0.5
print(f"OOF AUC               {roc_auc_score(df['churn'], oof):.4f}")
print(f"OOF F1                {f1_score(df['churn'], labels):.4f}")
print(f"OOF balanced accuracy {balanced_accuracy_score(df['churn'], labels):.4f}")
