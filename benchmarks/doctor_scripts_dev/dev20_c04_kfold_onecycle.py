# %% [markdown]
# # Stratified 4-fold cross-validation of a small CNN
# A fresh network, optimizer and one-cycle schedule for every fold.

# %%
import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, TensorDataset

from toydata import NAMES, Shapes

SEED = 2024
FOLDS = 4
EPOCHS = 12
BATCH = 50
MAX_LR = 5e-3

torch.manual_seed(SEED)

# %%
dataset = Shapes(train=True, count=1600)
X = torch.stack(dataset.images)  # 1600 x 3 x 16 x 16, in [0, 1]
y = torch.tensor(dataset.targets)
print(X.shape, y.shape, np.bincount(y.numpy()))


# %%
def conv_block(inputs, outputs, pool):
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return layers


def make_model():
    return nn.Sequential(
        *conv_block(3, 16, pool=False),
        *conv_block(16, 16, pool=True),
        *conv_block(16, 32, pool=True),
        *conv_block(32, 64, pool=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(64, len(NAMES)),
    )


def random_flips(batch):
    """The shapes are symmetric, so flips change nothing of the label."""
    if torch.rand(()) < 0.5:
        batch = batch.flip(-1)
    if torch.rand(()) < 0.5:
        batch = batch.flip(-2)
    return batch


# %%
folds = StratifiedKFold(n_splits=FOLDS, shuffle=True, random_state=SEED)
scores = []
out_of_fold = np.zeros((len(y), len(NAMES)), dtype=np.float32)
criterion = nn.CrossEntropyLoss()

for fold, (train_idx, valid_idx) in enumerate(folds.split(np.zeros(len(y)), y.numpy())):
    train_x, valid_x = X[train_idx], X[valid_idx]
    mean = train_x.mean(dim=(0, 2, 3), keepdim=True)
    std = train_x.std(dim=(0, 2, 3), keepdim=True)
    train_dl = DataLoader(TensorDataset((train_x - mean) / std, y[train_idx]), batch_size=BATCH, shuffle=True)
    valid_dl = DataLoader(TensorDataset((valid_x - mean) / std, y[valid_idx]), batch_size=200, shuffle=False)

    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=MAX_LR / 25, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=MAX_LR, epochs=EPOCHS, steps_per_epoch=len(train_dl)
    )

    for epoch in range(EPOCHS):
        model.train()
        train_loss, seen = 0.0, 0
        for xb, yb in train_dl:
            optimizer.zero_grad()
            loss = criterion(model(random_flips(xb)), yb)
            loss.backward()
            optimizer.step()
            scheduler.step()  # one cycle: once per batch
            train_loss += loss.item() * len(yb)
            seen += len(yb)

        model.eval()
        logits = []
        with torch.no_grad():
            for xb, _ in valid_dl:
                logits.append(model(xb))
        logits = torch.cat(logits)
        acc = (logits.argmax(1) == y[valid_idx]).float().mean().item()
        print(f"fold {fold} epoch {epoch:2d}: train loss {train_loss / seen:.4f}  valid acc {acc:.4f}")

    # the last epoch counts, not the best one
    out_of_fold[valid_idx] = logits.softmax(1).numpy()
    scores.append(acc)

# %%
print(f"accuracy of the folds: {np.round(scores, 4)}; mean {np.mean(scores):.4f} +- {np.std(scores):.4f}")
print("out of fold accuracy:", (out_of_fold.argmax(1) == y.numpy()).mean())
