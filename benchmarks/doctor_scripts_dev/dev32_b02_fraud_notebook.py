# %% [markdown]
# # Card fraud
# About six rows in a hundred are fraud. Accuracy says nothing here, so we watch F1 and average precision.

# %%
import numpy as np
import torch
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

SEED = 7
rng = np.random.default_rng(SEED)
torch.manual_seed(SEED)

# %% Load
X, y = make_classification(
    n_samples=12000,
    n_features=20,
    n_informative=8,
    n_redundant=4,
    n_clusters_per_class=2,
    class_sep=1.6,
    flip_y=0.002,
    weights=[0.94],
    random_state=SEED,
)
X = X * np.logspace(-1, 3, X.shape[1]) + np.linspace(0, 500, X.shape[1])
print("rows", len(y), "fraud", int(y.sum()))

# %% Split and scale
X_train, X_val, y_train, y_val = train_test_split(X, y, test_size=0.2, stratify=y, random_state=SEED)
scaler = StandardScaler()
X_train = scaler.fit_transform(X_train)
X_val = scaler.transform(X_val)

X_train_t = torch.tensor(X_train, dtype=torch.float32)
y_train_t = torch.tensor(y_train, dtype=torch.float32)
X_val_t = torch.tensor(X_val, dtype=torch.float32)

train_ds = TensorDataset(X_train_t, y_train_t)
train_dl = DataLoader(train_ds, batch_size=64, shuffle=True, drop_last=True)

# %% Model
model = nn.Sequential(
    nn.Linear(20, 128),
    nn.BatchNorm1d(128),
    nn.ReLU(),
    nn.Dropout(0.2),
    nn.Linear(128, 64),
    nn.BatchNorm1d(64),
    nn.ReLU(),
    nn.Dropout(0.2),
    nn.Linear(64, 1),
)

n_pos = float(y_train.sum())
n_neg = float(len(y_train) - n_pos)
criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(n_neg / n_pos))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)

# %% Train
EPOCHS = 40
history = []
for epoch in range(EPOCHS):
    model.train()
    running = 0.0
    for xb, yb in train_dl:
        optimizer.zero_grad()
        logits = model(xb).squeeze(1)
        loss = criterion(logits, yb)
        loss.backward()
        optimizer.step()
        running += loss.item()

    model.eval()
    with torch.no_grad():
        prob = torch.sigmoid(model(X_val_t).squeeze(1)).numpy()
    pred = (prob > 0.5).astype(int)
    f1 = f1_score(y_val, pred, zero_division=0)
    ap = average_precision_score(y_val, prob)
    history.append((running / len(train_dl), f1, ap))
    print(f"[{epoch + 1:02d}/{EPOCHS}] loss={running / len(train_dl):.4f} f1={f1:.3f} ap={ap:.3f}")

# %% Report
print("precision", round(precision_score(y_val, pred, zero_division=0), 3))
print("recall   ", round(recall_score(y_val, pred), 3))
print("best F1  ", round(max(h[1] for h in history), 3))
