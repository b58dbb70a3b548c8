# Customer churn: a table of numbers and categories, embeddings for the categories, an imbalanced binary target.
import copy

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

SEED = 7
np.random.seed(SEED)
torch.manual_seed(SEED)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

NUMERIC = ["tenure", "monthly_charges", "total_charges", "support_calls", "age"]
CATEGORICAL = ["contract", "internet", "payment"]
TARGET = "churn"


def make_customers(n=20000):
    rng = np.random.default_rng(SEED)
    df = pd.DataFrame({
        "tenure": rng.integers(1, 73, n),
        "monthly_charges": rng.normal(65, 25, n).clip(18, 120).round(2),
        "support_calls": rng.poisson(2.0, n),
        "age": rng.integers(18, 80, n),
        "contract": rng.choice(["month-to-month", "one year", "two year"], n, p=[0.55, 0.25, 0.20]),
        "internet": rng.choice(["dsl", "fiber", "none"], n, p=[0.4, 0.4, 0.2]),
        "payment": rng.choice(["card", "transfer", "electronic check", "mailed check"], n),
    })
    df["total_charges"] = (df["tenure"] * df["monthly_charges"] * rng.normal(1.0, 0.05, n)).round(2)
    monthly = df["contract"] == "month-to-month"
    fiber = df["internet"] == "fiber"
    score = (
        1.2 * monthly - 0.8 * (df["contract"] == "two year") + 0.7 * fiber + 0.6 * (monthly & fiber)
        + 0.5 * df["support_calls"] - 0.045 * df["tenure"] + 0.015 * (df["monthly_charges"] - 65)
        + 0.6 * (df["payment"] == "electronic check") - 0.01 * (df["age"] - 45)
        + rng.normal(0, 0.3, n)
    )
    df[TARGET] = (score > score.quantile(0.73)).astype(int)
    return df


class ChurnDataset(Dataset):
    def __init__(self, cats, nums, target):
        self.cats = torch.tensor(cats, dtype=torch.long)
        self.nums = torch.tensor(nums, dtype=torch.float32)
        self.target = torch.tensor(target, dtype=torch.float32)

    def __len__(self):
        return len(self.target)

    def __getitem__(self, idx):
        return self.cats[idx], self.nums[idx], self.target[idx]


class TabularModel(nn.Module):
    def __init__(self, cardinalities, num_numeric, hidden=(512, 256), dropout=0.3):
        super().__init__()
        sizes = [(n, min(50, (n + 1) // 2 + 1)) for n in cardinalities]
        self.embeddings = nn.ModuleList([nn.Embedding(n, d) for n, d in sizes])
        width = sum(d for _, d in sizes) + num_numeric
        layers = []
        for h in hidden:
            layers += [nn.Linear(width, h), nn.ReLU(), nn.BatchNorm1d(h), nn.Dropout(dropout)]
            width = h
        layers.append(nn.Linear(width, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, cats, nums):
        embedded = [embedding(cats[:, i]) for i, embedding in enumerate(self.embeddings)]
        return self.layers(torch.cat(embedded + [nums], dim=1)).squeeze(1)


df = make_customers()
print(df.head())
print("churn rate:", df[TARGET].mean())

train_df, test_df = train_test_split(df, test_size=0.15, stratify=df[TARGET], random_state=SEED)
train_df, val_df = train_test_split(train_df, test_size=0.15, stratify=train_df[TARGET], random_state=SEED)

scaler = StandardScaler().fit(train_df[NUMERIC].values)
categories = {c: sorted(train_df[c].unique()) for c in CATEGORICAL}


def to_dataset(frame):
    cats = np.stack([pd.Categorical(frame[c], categories=categories[c]).codes for c in CATEGORICAL], axis=1)
    return ChurnDataset(cats, scaler.transform(frame[NUMERIC].values), frame[TARGET].values)


train_loader = DataLoader(to_dataset(train_df), batch_size=128, shuffle=True, drop_last=True)
val_loader = DataLoader(to_dataset(val_df), batch_size=512)
test_loader = DataLoader(to_dataset(test_df), batch_size=512)

model = TabularModel([len(categories[c]) for c in CATEGORICAL], len(NUMERIC)).to(device)
negatives, positives = (train_df[TARGET] == 0).sum(), (train_df[TARGET] == 1).sum()
criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(negatives / positives, dtype=torch.float32, device=device))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
EPOCHS = 25
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS, eta_min=1e-5)


def train_fn():
    model.train()
    total, count = 0.0, 0
    for cats, nums, y in train_loader:
        cats, nums, y = cats.to(device), nums.to(device), y.to(device)
        optimizer.zero_grad()
        loss = criterion(model(cats, nums), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        count += len(y)
    return total / count


def valid_fn(loader):
    model.eval()
    total, probs, labels = 0.0, [], []
    with torch.no_grad():
        for cats, nums, y in loader:
            cats, nums, y = cats.to(device), nums.to(device), y.to(device)
            logits = model(cats, nums)
            total += criterion(logits, y).item() * len(y)
            probs.append(logits.sigmoid().cpu().numpy())
            labels.append(y.cpu().numpy())
    probs, labels = np.concatenate(probs), np.concatenate(labels).astype(int)
    return total / len(labels), roc_auc_score(labels, probs), f1_score(labels, (probs > 0.5).astype(int))


best_auc, best_state = 0.0, None
for epoch in range(EPOCHS):
    train_loss = train_fn()
    val_loss, auc, f1 = valid_fn(val_loader)
    scheduler.step()
    print(f"epoch {epoch + 1:2d}: train loss {train_loss:.4f}, val loss {val_loss:.4f}, AUC {auc:.4f}, F1 {f1:.4f}")
    if auc > best_auc:
        best_auc = auc
        best_state = copy.deepcopy(model.state_dict())

model.load_state_dict(best_state)
test_loss, auc, f1 = valid_fn(test_loader)
print(f"best val AUC {best_auc:.4f}; test loss {test_loss:.4f}, AUC {auc:.4f}, F1 {f1:.4f}")
