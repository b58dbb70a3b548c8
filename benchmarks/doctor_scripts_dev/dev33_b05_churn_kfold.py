# Customer churn: entity embeddings + MLP, 5 fold CV, OOF AUC
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset


class CFG:
    seed = 2024
    n_rows = 6000
    n_folds = 5
    epochs = 10
    bs = 64
    lr = 0.05
    momentum = 0.9
    wd = 1e-4
    max_norm = 1.0
    emb_dim = 4
    amp_dtype = torch.bfloat16


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


# ---------------------------------------------------------------- data
def load_data(n, seed):
    r = np.random.default_rng(seed)
    age = r.uniform(18, 80, n)
    income = np.exp(r.normal(10.5, 0.5, n))
    tenure = r.gamma(2.0, 18.0, n)
    balance = r.normal(2500, 1200, n)
    calls = r.poisson(3, n).astype(float)
    region = r.integers(0, 8, n)
    plan = r.integers(0, 4, n)
    channel = r.integers(0, 5, n)

    region_eff = np.array([-1.0, 0.6, 1.1, -0.7, 0.2, -1.3, 1.4, -0.3])
    plan_eff = np.array([1.2, 0.1, -0.4, -0.9])
    z_age = (age - 49) / 18
    z_inc = (np.log(income) - 10.5) / 0.5
    z_bal = (balance - 2500) / 1200
    z = (
        -1.6
        - 0.06 * (tenure - 36)
        + 0.45 * (calls - 3)
        + 0.8 * (z_age**2 - 1)
        + 0.7 * z_inc * z_bal
        + 1.1 * region_eff[region]
        + 1.0 * plan_eff[plan]
    )
    y = (r.random(n) < 1 / (1 + np.exp(-1.3 * z))).astype(np.float32)
    num = np.stack([age, income, tenure, balance, calls], 1).astype(np.float32)
    cat = np.stack([region, plan, channel], 1).astype(np.int64)
    return num, cat, y


CARDS = [8, 4, 5]


class ChurnNet(nn.Module):
    def __init__(self, n_num=5, cards=CARDS, dim=CFG.emb_dim):
        super().__init__()
        self.embs = nn.ModuleList([nn.Embedding(c, dim) for c in cards])
        self.mlp = nn.Sequential(
            nn.Linear(n_num + dim * len(cards), 64),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
        )

    def forward(self, num, cat):
        e = [emb(cat[:, i]) for i, emb in enumerate(self.embs)]
        return self.mlp(torch.cat([num, *e], 1))


def make_ds(num, cat, y):
    return TensorDataset(torch.from_numpy(num).float(), torch.from_numpy(cat), torch.from_numpy(y).unsqueeze(1))


def train_one_epoch(model, loader, optimizer, scaler, criterion):
    model.train()
    losses, n = 0.0, 0
    for num, cat, yb in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=CFG.amp_dtype):
            logits = model(num, cat)
        loss = criterion(logits.float(), yb)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), CFG.max_norm)
        scaler.step(optimizer)
        scaler.update()
        losses += loss.item() * len(yb)
        n += len(yb)
    return losses / n


@torch.no_grad()
def predict(model, loader):
    model.eval()
    return torch.cat([model(num, cat) for num, cat, _ in loader]).squeeze(1)


# ---------------------------------------------------------------- CV
seed_everything(CFG.seed)
num, cat, y = load_data(CFG.n_rows, CFG.seed)
print(f"rows {len(y)}, churn rate {y.mean():.3f}")

skf = StratifiedKFold(CFG.n_folds, shuffle=True, random_state=CFG.seed)
oof = np.zeros(len(y))
for fold, (tr, va) in enumerate(skf.split(num, y)):
    sc = StandardScaler().fit(num[tr])
    trn_ds = make_ds(sc.transform(num[tr]), cat[tr], y[tr])
    val_ds = make_ds(sc.transform(num[va]), cat[va], y[va])
    trn_dl = DataLoader(trn_ds, batch_size=CFG.bs, shuffle=True, drop_last=True)
    val_dl = DataLoader(val_ds, batch_size=512)

    model = ChurnNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=CFG.lr, momentum=CFG.momentum, weight_decay=CFG.wd)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=CFG.epochs)
    scaler = torch.amp.GradScaler("cpu")
    criterion = nn.BCEWithLogitsLoss()

    for ep in range(CFG.epochs):
        trn_loss = train_one_epoch(model, trn_dl, optimizer, scaler, criterion)
        scheduler.step()
        val_logits = predict(model, val_dl)
        val_probs = torch.sigmoid(val_logits)
        auc = roc_auc_score(y[va], val_probs.numpy())
        hard = (val_probs > 0.5).numpy().astype(int)
        acc = (hard == y[va]).mean()
        f1 = f1_score(y[va], hard, zero_division=0)
        print(f"fold {fold} ep {ep} | loss {trn_loss:.4f} | auc {auc:.4f} | acc {acc:.4f} | f1 {f1:.4f}")
    oof[va] = val_probs.numpy()

print(f"OOF AUC: {roc_auc_score(y, oof):.4f}")
