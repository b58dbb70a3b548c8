# %% [markdown]
# # Used car prices: entity embeddings in PyTorch, 4 folds
# Metric: RMSE of log1p(price)

# %% [code]
import os
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import KFold
from torch.utils.data import DataLoader, TensorDataset


class CFG:
    seed = 42
    n_train = 8000
    n_test = 2500
    n_folds = 4
    epochs = 12
    batch_size = 128
    max_lr = 4e-3
    weight_decay = 1e-3
    cats = ["brand", "model", "region", "fuel", "colour"]
    nums = ["age", "km", "power", "owners"]


def seed_everything(seed):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# %% [code]
def make_listings(n, rng):
    world = np.random.default_rng(2024)
    brand_effect = world.normal(0, 0.35, 14)
    model_brand = world.integers(0, 14, 70)
    model_effect = world.normal(0, 0.25, 70)
    model_decay = world.uniform(0.05, 0.13, 70)
    model_p = 1 / np.arange(1, 71) ** 0.7
    region_effect = world.normal(0, 0.08, 9)
    fuels = np.array(["petrol", "diesel", "hybrid", "electric"])
    fuel_effect = np.array([0.0, 0.06, 0.15, 0.25])

    m = rng.choice(70, n, p=model_p / model_p.sum())
    r = rng.integers(0, 9, n)
    f = rng.choice(4, n, p=[0.5, 0.3, 0.12, 0.08])
    c = rng.integers(0, 11, n)
    age = rng.gamma(2.5, 2.5, n)
    km = np.clip(age * rng.normal(14, 4, n), 0, None)
    power = rng.normal(110, 30, n) + 60 * model_effect[m]
    owners = 1 + rng.poisson(age / 6)
    log_price = (9.6 + brand_effect[model_brand[m]] + model_effect[m] - model_decay[m] * age
                 - 0.002 * km + 0.004 * (power - 110) + region_effect[r]
                 + fuel_effect[f] * np.exp(-age / 8) - 0.03 * (owners - 1)
                 + rng.normal(0, 0.12, n))
    km = np.where(rng.random(n) < 0.05, np.nan, km)
    return {
        "brand": [f"brand_{b}" for b in model_brand[m]],
        "model": [f"model_{i}" for i in m],
        "region": [f"region_{i}" for i in r],
        "fuel": list(fuels[f]),
        "colour": [f"colour_{i}" for i in c],
        "age": age, "km": km, "power": power, "owners": owners.astype(float),
        "price": np.exp(log_price),
    }


rng = np.random.default_rng(CFG.seed)
train_df = make_listings(CFG.n_train, rng)
test_df = make_listings(CFG.n_test, rng)

# %% [code]
def fit_vocab(column):
    vocab = {}
    for value in column:
        vocab.setdefault(value, len(vocab) + 1)
    return vocab


def encode(column, vocab):
    return np.array([vocab.get(v, 0) for v in column], dtype=np.int64)


vocabs = {c: fit_vocab(train_df[c]) for c in CFG.cats}
X_cat = np.stack([encode(train_df[c], vocabs[c]) for c in CFG.cats], axis=1)
X_cat_test = np.stack([encode(test_df[c], vocabs[c]) for c in CFG.cats], axis=1)
X_num = np.stack([train_df[c] for c in CFG.nums], axis=1)
X_num_test = np.stack([test_df[c] for c in CFG.nums], axis=1)
y = np.log1p(train_df["price"])
y_test = np.log1p(test_df["price"])
cardinalities = [len(vocabs[c]) + 1 for c in CFG.cats]
print("cardinalities:", dict(zip(CFG.cats, cardinalities)))

# %% [code]
class TabularNet(nn.Module):
    def __init__(self, cards, n_num):
        super().__init__()
        self.embs = nn.ModuleList([nn.Embedding(n, min(24, (n + 1) // 2)) for n in cards])
        n_in = sum(e.embedding_dim for e in self.embs) + n_num
        self.body = nn.Sequential(
            nn.Linear(n_in, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.05),
            nn.Linear(128, 64), nn.BatchNorm1d(64), nn.ReLU())
        self.out = nn.Linear(64, 1)

    def forward(self, x_cat, x_num):
        e = [emb(x_cat[:, i]) for i, emb in enumerate(self.embs)]
        h = self.body(torch.cat(e + [x_num], dim=1))
        return self.out(h).squeeze(-1)


def rmse_loss(pred, target):
    return torch.sqrt(torch.mean((pred - target) ** 2) + 1e-8)


def rmse(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2)))


def impute_and_scale(fit_on, *others):
    med = np.nanmedian(fit_on, axis=0)
    filled = np.where(np.isnan(fit_on), med, fit_on)
    mu, sd = filled.mean(0), filled.std(0)
    return [((np.where(np.isnan(a), med, a) - mu) / sd).astype(np.float32) for a in (fit_on, *others)]


def predict(model, x_cat, x_num, bs=1024):
    model.eval()
    chunks = []
    with torch.no_grad():
        for i in range(0, len(x_cat), bs):
            p = model(torch.from_numpy(x_cat[i:i + bs]), torch.from_numpy(x_num[i:i + bs]))
            chunks.append(p.numpy().reshape(-1))
    return np.concatenate(chunks)

# %% [code]
oof = np.zeros(len(y))
test_pred = np.zeros(len(y_test))

for fold, (tr, va) in enumerate(KFold(CFG.n_folds, shuffle=True, random_state=CFG.seed).split(X_cat)):
    num_tr, num_va, num_te = impute_and_scale(X_num[tr], X_num[va], X_num_test)
    y_mu, y_sd = y[tr].mean(), y[tr].std()
    t_tr = ((y[tr] - y_mu) / y_sd).astype(np.float32)
    ds = TensorDataset(torch.from_numpy(X_cat[tr]), torch.from_numpy(num_tr), torch.from_numpy(t_tr))
    dl = DataLoader(ds, batch_size=CFG.batch_size, shuffle=True, drop_last=True)

    model = TabularNet(cardinalities, num_tr.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.max_lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(dl))

    for epoch in range(CFG.epochs):
        model.train()
        running = 0.0
        for xc, xn, target in dl:
            loss = rmse_loss(model(xc, xn), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item()
        va_pred = predict(model, X_cat[va], num_va) * y_sd + y_mu
        if epoch % 3 == 2:
            print(f"fold {fold} epoch {epoch + 1:2d}  loss {running / len(dl):.4f}  valid {rmse(va_pred, y[va]):.4f}")

    oof[va] = va_pred
    test_pred += (predict(model, X_cat_test, num_te) * y_sd + y_mu) / CFG.n_folds

# %% [code]
print(f"CV   RMSE {rmse(oof, y):.4f}   (mean prediction: {y.std():.4f})")
print(f"test RMSE {rmse(test_pred, y_test):.4f}")
mape = np.mean(np.abs(np.expm1(test_pred) - test_df["price"]) / test_df["price"])
print(f"test MAPE {100 * mape:.1f} %")
