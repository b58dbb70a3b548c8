# Churn playground - NN with embeddings, 3 folds, OOF AUC
# v7: onecycle + embeddings, CV up from LGBM baseline
import gc
import random
import time

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset


class CFG:
    seed = 2024
    n_folds = 3
    epochs = 10
    bs = 128
    max_lr = 4e-3
    wd = 1e-3


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def load_train(n=24000):
    rng = np.random.default_rng(0)
    df = {
        "id": np.arange(n),
        "age": rng.uniform(18, 80, n),
        "income": rng.lognormal(10.6, 0.5, n),
        "balance": rng.gamma(2.0, 3000.0, n),
        "tenure": rng.integers(0, 120, n).astype(float),
        "n_calls": rng.poisson(2.0, n).astype(float),
        "city": rng.integers(0, 12, n),
        "plan": rng.integers(0, 4, n),
    }
    city_effect = rng.normal(0, 0.7, 12)
    z = -1.8 + 1.3 * np.sin(df["age"] / 8.0) - 1.2 * (np.log(df["income"]) - 10.6) / 0.5
    z += 2.2 * ((df["plan"] == 2) & (df["tenure"] < 50)) + 0.6 * (df["n_calls"] - 2.0)
    z += city_effect[df["city"]] - 0.5 * (df["balance"] - 6000.0) / 4200.0
    df["target"] = (rng.random(n) < 1 / (1 + np.exp(-1.6 * z))).astype(np.float32)
    return df


seed_everything(CFG.seed)
train = load_train()
CATS = ["city", "plan"]
NUMS = [c for c in train if c not in CATS + ["id", "target"]]
print("numeric:", len(NUMS), "categorical:", len(CATS), "rows:", len(train["id"]))

num = np.stack([train[c] for c in NUMS], 1).astype(np.float32)
cat = np.stack([train[c] for c in CATS], 1).astype(np.int64)
y = train["target"]
card = [int(cat[:, j].max()) + 1 for j in range(len(CATS))]
print("positive rate: %.3f" % y.mean())


class TabNN(nn.Module):
    def __init__(self, n_num, card):
        super().__init__()
        self.embs = nn.ModuleList([nn.Embedding(c, min(8, (c + 1) // 2)) for c in card])
        n_in = n_num + sum(e.embedding_dim for e in self.embs)
        self.body = nn.Sequential(
            nn.Linear(n_in, 96), nn.SiLU(), nn.Dropout(0.1),
            nn.Linear(96, 48), nn.SiLU(), nn.Dropout(0.1),
        )
        self.head = nn.Linear(48, 1)

    def forward(self, x_num, x_cat):
        x = torch.cat([x_num] + [e(x_cat[:, j]) for j, e in enumerate(self.embs)], 1)
        return self.head(self.body(x)).squeeze(1)


def make_loader(x_num, x_cat, target, train_mode):
    ds = TensorDataset(torch.as_tensor(x_num), torch.as_tensor(x_cat), torch.as_tensor(target))
    return DataLoader(ds, batch_size=CFG.bs if train_mode else 2000, shuffle=train_mode, drop_last=train_mode)


def train_fn(model, loader, criterion, optimizer, scheduler):
    model.train()
    losses = []
    for x_num, x_cat, t in loader:
        optimizer.zero_grad()
        out = model(x_num, x_cat)
        loss = criterion(out, t)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def predict_fn(model, loader):
    model.eval()
    preds = []
    with torch.no_grad():
        for x_num, x_cat, _ in loader:
            preds.append(torch.sigmoid(model(x_num, x_cat)).numpy())
    return np.concatenate(preds)


def get_score(target, prob):
    auc = roc_auc_score(target, prob)
    ll = log_loss(target, np.clip(prob.astype(np.float64), 1e-6, 1 - 1e-6))
    acc = ((prob > 0.5) == (target > 0.5)).mean()
    return auc, ll, acc


oof = np.zeros(len(y), dtype=np.float32)
skf = StratifiedKFold(n_splits=CFG.n_folds, shuffle=True, random_state=CFG.seed)
t0 = time.time()
for fold, (tr, va) in enumerate(skf.split(num, y)):
    print(f"===== fold {fold} =====")
    scaler = StandardScaler()
    x_tr = scaler.fit_transform(num[tr]).astype(np.float32)
    x_va = scaler.transform(num[va]).astype(np.float32)
    train_loader = make_loader(x_tr, cat[tr], y[tr], True)
    valid_loader = make_loader(x_va, cat[va], y[va], False)

    model = TabNN(len(NUMS), card)
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=CFG.wd)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader)
    )
    for epoch in range(CFG.epochs):
        tr_loss = train_fn(model, train_loader, criterion, optimizer, scheduler)
        pred = predict_fn(model, valid_loader)
        auc, ll, acc = get_score(y[va], pred)
        print(f"ep {epoch} loss {tr_loss:.4f} val_ll {ll:.4f} auc {auc:.4f} acc {acc:.4f} [{time.time() - t0:.0f}s]")
    oof[va] = pred
    del model, optimizer, scheduler
    gc.collect()

print("CV: auc %.5f logloss %.5f acc %.4f" % get_score(y, oof))
