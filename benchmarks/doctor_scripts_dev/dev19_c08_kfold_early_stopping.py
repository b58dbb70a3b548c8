# %% [markdown]
# # Handwritten digits: 5-fold cross-validation with early stopping, ensemble on the test set
# The 8x8 digits that come with scikit-learn. A test set is put aside before anything else.

# %%
import copy

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from torch.utils.data import DataLoader, Subset, TensorDataset

SEED = 2024
N_FOLDS = 5
MAX_EPOCHS = 30
PATIENCE = 5
torch.manual_seed(SEED)
np.random.seed(SEED)

# %%
digits = load_digits()
X = digits.images.astype(np.float32)[:, None]
y = digits.target.astype(np.int64)
X_dev, X_test, y_dev, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=SEED)
print(X_dev.shape, X_test.shape, np.bincount(y_dev))


# %%
class Net(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        # the statistics of the fold's training part travel with the model
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.block1 = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Dropout2d(0.05))
        self.block2 = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2))
        self.block3 = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4, 10))

    def forward(self, x):
        x = (x - self.mean) / self.std
        return self.head(self.block3(self.block2(self.block1(x))))


class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.best, self.bad, self.state = patience, np.inf, 0, None

    def step(self, loss, model):
        if loss < self.best - 1e-4:
            self.best, self.bad = loss, 0
            self.state = copy.deepcopy(model.state_dict())
        else:
            self.bad += 1
        return self.bad >= self.patience


def predict(model, loader):
    model.eval()
    logits, labels = [], []
    with torch.inference_mode():
        for xb, yb in loader:
            logits.append(model(xb))
            labels.append(yb)
    return torch.cat(logits), torch.cat(labels)


# %%
criterion = nn.CrossEntropyLoss()
dev = TensorDataset(torch.from_numpy(X_dev), torch.from_numpy(y_dev))
test = TensorDataset(torch.from_numpy(X_test), torch.from_numpy(y_test))
test_loader = DataLoader(test, batch_size=180)

oof = np.zeros(len(y_dev), dtype=np.int64)
test_probs = torch.zeros(len(y_test), 10)
skf = StratifiedKFold(n_splits=N_FOLDS, shuffle=True, random_state=SEED)

for fold, (tr_idx, va_idx) in enumerate(skf.split(X_dev, y_dev)):
    mean, std = X_dev[tr_idx].mean(), X_dev[tr_idx].std()
    model = Net(float(mean), float(std))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=2)
    train_loader = DataLoader(Subset(dev, tr_idx), batch_size=32, shuffle=True)
    valid_loader = DataLoader(Subset(dev, va_idx), batch_size=144)
    stopper = EarlyStopping(PATIENCE)

    for epoch in range(MAX_EPOCHS):
        model.train()
        train_loss = 0.0
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            train_loss += loss.item() * len(xb)
        train_loss /= len(tr_idx)

        logits, labels = predict(model, valid_loader)
        val_loss = criterion(logits, labels).item()
        val_acc = accuracy_score(labels.numpy(), logits.argmax(1).numpy())
        scheduler.step(val_loss)
        print(f"fold {fold} epoch {epoch:2d} train loss {train_loss:.4f} val loss {val_loss:.4f} val acc {val_acc:.4f}")
        if stopper.step(val_loss, model):
            print(f"fold {fold}: stopped early at epoch {epoch}")
            break

    model.load_state_dict(stopper.state)
    oof[va_idx] = predict(model, valid_loader)[0].argmax(1).numpy()
    test_probs += predict(model, test_loader)[0].softmax(1) / N_FOLDS

# %%
print(f"out of fold: acc {accuracy_score(y_dev, oof):.4f} macro f1 {f1_score(y_dev, oof, average='macro'):.4f}")
print(f"test, mean of {N_FOLDS} models: acc {accuracy_score(y_test, test_probs.argmax(1).numpy()):.4f}")
