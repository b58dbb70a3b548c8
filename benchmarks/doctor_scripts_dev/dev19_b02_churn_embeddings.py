# %% [markdown]
# # Customer churn with entity embeddings
# A table with numbers of various scales and columns of names; one customer in seven leaves.

# %%
import copy

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(42)
rng = np.random.default_rng(42)

# %% the table
n = 8000
cities = np.array([f"city_{i:02d}" for i in range(40)])
shops = np.array([f"shop_{i:02d}" for i in range(60)])
plans = np.array(["basic", "family", "business", "student"])
df = pd.DataFrame({
    "city": rng.choice(cities, n),
    "shop": rng.choice(shops, n),
    "plan": rng.choice(plans, n, p=[0.5, 0.25, 0.15, 0.1]),
    "income": rng.normal(52_000, 16_000, n).clip(8_000),
    "tenure_days": rng.gamma(2.0, 400.0, n),
    "monthly_bill": rng.normal(60, 20, n).clip(5),
    "calls_to_support": rng.poisson(1.5, n).astype(float),
})
effect = {name: e for names in (cities, shops, plans) for name, e in zip(names, rng.normal(0, 1.3, len(names)))}
logit = (
    df["city"].map(effect) + df["shop"].map(effect) + df["plan"].map(effect)
    - 1.2 * (df["income"] - 52_000) / 16_000
    - 0.8 * (df["tenure_days"] - 800) / 560
    + 1.0 * (df["calls_to_support"] - 1.5) * (df["monthly_bill"] - 60) / 20
)
logit = 1.2 * (logit - logit.quantile(0.86))
df["churned"] = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
print(df.head(), "\nchurn rate", df["churned"].mean())

cat_cols = ["city", "shop", "plan"]
num_cols = ["income", "tenure_days", "monthly_bill", "calls_to_support"]


# %% split, then let those who left appear as often as those who stayed
def oversample(frame):
    stayed, left = frame[frame["churned"] == 0], frame[frame["churned"] == 1]
    return pd.concat([stayed, left.sample(len(stayed), replace=True, random_state=0)])


train_df, valid_df = train_test_split(df, test_size=0.25, stratify=df["churned"], random_state=1)
train_df = oversample(train_df)

# %% encode
scaler = StandardScaler().fit(train_df[num_cols])
train_num = scaler.transform(train_df[num_cols]).astype(np.float32)
valid_num = scaler.transform(valid_df[num_cols]).astype(np.float32)

train_cat, valid_cat, cardinalities = [], [], []
for col in cat_cols:
    codes, uniques = pd.factorize(train_df[col])
    train_cat.append(codes + 1)
    valid_cat.append(pd.Index(uniques).get_indexer(valid_df[col]) + 1)  # 0: never seen
    cardinalities.append(len(uniques) + 1)
train_cat, valid_cat = np.stack(train_cat, 1), np.stack(valid_cat, 1)


def to_dataset(cat, num, frame):
    y = torch.tensor(frame["churned"].to_numpy(), dtype=torch.float32)
    return TensorDataset(torch.from_numpy(cat).long(), torch.from_numpy(num), y)


train_dl = DataLoader(to_dataset(train_cat, train_num, train_df), batch_size=128, shuffle=True)
valid_dl = DataLoader(to_dataset(valid_cat, valid_num, valid_df), batch_size=512)


# %% model
class TabularModel(nn.Module):
    def __init__(self, cardinalities, n_num, hidden=(128, 64), p=0.2):
        super().__init__()
        self.embeds = nn.ModuleList([nn.Embedding(c, min(16, (c + 1) // 2)) for c in cardinalities])
        width = sum(e.embedding_dim for e in self.embeds) + n_num
        layers = []
        for h in hidden:
            layers += [nn.Linear(width, h), nn.ReLU(), nn.Dropout(p)]
            width = h
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, x_cat, x_num):
        x = torch.cat([e(x_cat[:, i]) for i, e in enumerate(self.embeds)] + [x_num], dim=1)
        return self.layers(x).squeeze(1)


class EarlyStopping:
    """Keeps the weights of the epoch with the lowest score, stops after `patience` epochs without a lower one."""

    def __init__(self, patience=6):
        self.patience, self.best, self.counter, self.weights = patience, float("inf"), 0, None

    def __call__(self, score, model):
        if score < self.best:
            self.best, self.counter, self.weights = score, 0, copy.deepcopy(model.state_dict())
        else:
            self.counter += 1
        return self.counter >= self.patience


model = TabularModel(cardinalities, len(num_cols))
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-4, weight_decay=1e-5)
stopper = EarlyStopping()


def validate():
    model.eval()
    outs, ys = [], []
    with torch.no_grad():
        for x_cat, x_num, y in valid_dl:
            outs.append(model(x_cat, x_num))
            ys.append(y)
    out, y = torch.cat(outs), torch.cat(ys)
    auc = roc_auc_score(y.numpy(), out.sigmoid().numpy())
    bal = balanced_accuracy_score(y.numpy(), (out > 0).float().numpy())
    return criterion(out, y).item(), auc, bal


# %% train
for epoch in range(30):
    model.train()
    running = 0.0
    for x_cat, x_num, y in train_dl:
        optimizer.zero_grad()
        loss = criterion(model(x_cat, x_num), y)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(y)
    val_loss, auc, bal = validate()
    print(f"epoch {epoch:2d}  train {running / len(train_dl.dataset):.4f}  valid {val_loss:.4f}  "
          f"auc {auc:.4f}  balanced acc {bal:.4f}")
    if stopper(val_loss, model):
        print("early stop")
        break

# %% the best epoch
model.load_state_dict(stopper.weights)
print("best: loss %.4f  auc %.4f  balanced acc %.4f" % validate())
