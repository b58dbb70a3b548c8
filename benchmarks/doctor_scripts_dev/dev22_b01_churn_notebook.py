# %% [markdown]
# # Who leaves? Customer churn with entity embeddings
# One table of customers, about one in eight cancels. Numbers are standardized, categories get embeddings.

# %%
import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(42)
torch.set_num_threads(1)
rng = np.random.default_rng(42)

# %% [markdown]
# ## The table (made here, in the form of the export of the customer database)

# %%
N = 20000
table = {
    "tenure_months": rng.exponential(30, N).clip(0, 120).round(),
    "monthly_charge": rng.uniform(15, 120, N),
    "usage_mb": 1000 * rng.lognormal(3.0, 0.8, N),
    "support_calls": rng.poisson(1.5, N).astype(float),
    "contract": rng.integers(0, 3, N),
    "region": rng.integers(0, 5, N),
    "payment": rng.integers(0, 4, N),
}
tenure = (table["tenure_months"] - 30) / 30
charge = (table["monthly_charge"] - 67) / 30
usage = (np.log(table["usage_mb"] / 1000) - 3.0) / 0.8
calls = (table["support_calls"] - 1.5) / 1.2
risk = (
    -1.3
    - 0.9 * tenure
    + 0.8 * charge * np.where(table["contract"] == 0, 1.0, -0.5)
    + 0.7 * calls
    + 0.5 * (table["region"] == table["payment"])
    - 0.6 * np.abs(usage)
)
churned = (rng.random(N) < 1 / (1 + np.exp(-3 * risk))).astype(np.float32)
table["closing_fee"] = churned * rng.uniform(20, 80, N)  # billed when the contract is cancelled
print(f"{N} customers, {churned.mean():.1%} of them left")

# %%
numeric = ["tenure_months", "monthly_charge", "usage_mb", "support_calls"]
categorical = ["contract", "region", "payment"]
num = np.stack([table[name] for name in numeric], axis=1).astype(np.float32)
cat = np.stack([table[name] for name in categorical], axis=1).astype(np.int64)
cardinalities = [int(cat[:, i].max()) + 1 for i in range(cat.shape[1])]

train_idx, val_idx = train_test_split(np.arange(N), test_size=0.2, stratify=churned, random_state=0)

# %%
scaler = StandardScaler().fit(num[train_idx])
num_train = scaler.transform(num[train_idx])
num_val = scaler.transform(num[val_idx])


def to_dataset(numbers, index):
    return TensorDataset(
        torch.as_tensor(numbers, dtype=torch.float32),
        torch.as_tensor(cat[index]),
        torch.as_tensor(churned[index]).unsqueeze(1),
    )


train_ds = to_dataset(num_train, train_idx)
val_ds = to_dataset(num_val, val_idx)
train_dl = DataLoader(train_ds, batch_size=64, shuffle=True)
val_dl = DataLoader(val_ds, batch_size=500)


# %%
class TabularNet(nn.Module):
    def __init__(self, cardinalities, n_numeric, hidden=(64, 32), dropout=0.1):
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(c, min(8, (c + 1) // 2 + 1)) for c in cardinalities)
        width = sum(e.embedding_dim for e in self.embeddings) + n_numeric
        layers = []
        for h in hidden:
            layers += [nn.Linear(width, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Dropout(dropout)]
            width = h
        self.mlp = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, numbers, categories):
        embedded = [e(categories[:, i]) for i, e in enumerate(self.embeddings)]
        return self.mlp(torch.cat(embedded + [numbers], dim=1))


model = TabularNet(cardinalities, len(numeric))

# %% [markdown]
# Leavers are rare, so each of them weighs as much as several stayers.

# %%
n_pos = float(churned[train_idx].sum())
n_neg = len(train_idx) - n_pos
criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([n_neg / n_pos]))
EPOCHS = 30
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

# %%
for epoch in range(EPOCHS):
    model.train()
    total = 0.0
    for numbers, categories, y in train_dl:
        logits = model(numbers, categories)
        loss = criterion(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    scheduler.step()

    model.eval()
    probs, truth = [], []
    with torch.no_grad():
        for numbers, categories, y in val_dl:
            probs.append(torch.sigmoid(model(numbers, categories)).squeeze(1))
            truth.append(y.squeeze(1))
    probs, truth = torch.cat(probs).numpy(), torch.cat(truth).numpy()
    pred = probs > 0.5
    print(
        f"epoch {epoch + 1:2d}  train loss {total / len(train_ds):.4f}  val AUC {roc_auc_score(truth, probs):.4f}  "
        f"F1 {f1_score(truth, pred, zero_division=0):.4f}  balanced acc {balanced_accuracy_score(truth, pred):.4f}"
    )

# %%
print("ten riskiest customers of the validation set:", val_idx[np.argsort(-probs)[:10]].tolist())
