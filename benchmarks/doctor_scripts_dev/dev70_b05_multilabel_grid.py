# %% [markdown]
# # Which digits are in the picture?
# Multi-label classification of 2x2 grids of handwritten digits (some cells empty, some
# digits rare). Per-class decision thresholds are tuned on the validation pictures.

# %%
import math
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

CFG = dict(
    seed=5, n_train=1500, n_val=400, n_test=400, batch_size=64, epochs=14,
    lr=5e-3, wd=1e-2, noise=0.25, empty=0.3, classes=10,
)
torch.manual_seed(CFG["seed"])
np.random.seed(CFG["seed"])

# %%
digits = load_digits()
IMAGES, TARGET = (digits.images / 16.0).astype(np.float32), digits.target
pool_train, pool_rest = train_test_split(np.arange(len(TARGET)), test_size=0.4, stratify=TARGET, random_state=1)
pool_val, pool_test = train_test_split(pool_rest, test_size=0.5, stratify=TARGET[pool_rest], random_state=1)
FREQ = 0.75 ** np.arange(10)
FREQ /= FREQ.sum()


def compose(n, pool, rng):
    """n pictures of 16x16 pixels from the digits of the pool, with their multi-hot labels"""
    by_class = [pool[TARGET[pool] == c] for c in range(10)]
    x = np.zeros((n, 16, 16), np.float32)
    y = np.zeros((n, 10), np.float32)
    for i in range(n):
        for r, c in ((0, 0), (0, 8), (8, 0), (8, 8)):
            if rng.random() < CFG["empty"]:
                continue
            k = rng.choice(10, p=FREQ)
            x[i, r:r + 8, c:c + 8] = IMAGES[rng.choice(by_class[k])]
            y[i, k] = 1
    x += CFG["noise"] * rng.standard_normal(x.shape).astype(np.float32)
    return x, y


class GridDataset(Dataset):
    def __init__(self, x, y, mean, std, augment=False):
        self.x = torch.from_numpy((x - mean) / std).unsqueeze(1)
        self.y = torch.from_numpy(y)
        self.augment = augment

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        x = self.x[i]
        if self.augment:
            perm = torch.randperm(4).tolist()
            cells = [x[:, r:r + 8, c:c + 8] for r in (0, 8) for c in (0, 8)]
            cells = [cells[p] for p in perm]
            x = torch.cat([torch.cat(cells[:2], 2), torch.cat(cells[2:], 2)], 1)
        return x, self.y[i]


rng = np.random.default_rng(CFG["seed"])
x_tr, y_tr = compose(CFG["n_train"], pool_train, rng)
x_va, y_va = compose(CFG["n_val"], pool_val, rng)
x_te, y_te = compose(CFG["n_test"], pool_test, rng)
mean, std = x_tr.mean(), x_tr.std()
train_ds = GridDataset(x_tr, y_tr, mean, std, augment=True)
val_ds, test_ds = GridDataset(x_va, y_va, mean, std), GridDataset(x_te, y_te, mean, std)
print("label counts in train:", y_tr.sum(0).astype(int))

# %%
class_weight = 1.0 / np.sqrt(y_tr.mean(0))
sample_weight = np.where(y_tr.any(1), (y_tr * class_weight).max(1), class_weight.min())
sampler = WeightedRandomSampler(torch.from_numpy(sample_weight), num_samples=len(train_ds), replacement=True)
train_loader = DataLoader(train_ds, batch_size=CFG["batch_size"], sampler=sampler)
val_loader = DataLoader(val_ds, batch_size=200)
test_loader = DataLoader(test_ds, batch_size=200)


# %%
def make_net(w=16):
    return nn.Sequential(
        nn.Conv2d(1, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(w, 2 * w, 3, padding=1, bias=False), nn.BatchNorm2d(2 * w), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2 * w, 6 * w, 2, stride=2, bias=False), nn.BatchNorm2d(6 * w), nn.ReLU(), nn.Dropout(0.1),
        nn.Conv2d(6 * w, CFG["classes"], 1), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
    )


criterion = nn.BCEWithLogitsLoss()


def train_one_epoch(net, loader, opt, sched):
    net.train()
    total = 0.0
    for xb, yb in loader:
        loss = criterion(net(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        total += loss.item() * len(xb)
    return total / len(loader.dataset)


@torch.no_grad()
def predict(net, loader):
    net.eval()
    return torch.cat([torch.sigmoid(net(xb)) for xb, _ in loader]).numpy()


def pick_thresholds(prob, y):
    grid = np.linspace(0.05, 0.95, 37)
    return np.array([grid[np.argmax([f1_score(y[:, c], prob[:, c] > t, zero_division=0) for t in grid])]
                     for c in range(y.shape[1])])


def fit(loader, epochs=CFG["epochs"], verbose=True):
    net = make_net()
    opt = torch.optim.AdamW(net.parameters(), lr=CFG["lr"], weight_decay=CFG["wd"])
    total = epochs * len(loader)
    warm = total // 10
    sched = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda s: (s + 1) / warm if s < warm else 0.5 * (1 + math.cos(math.pi * (s - warm) / (total - warm))))
    for epoch in range(epochs):
        tr_loss = train_one_epoch(net, loader, opt, sched)
        if verbose and epoch % 3 == 0:
            prob = predict(net, val_loader)
            va_loss = F.binary_cross_entropy(torch.from_numpy(prob), torch.from_numpy(y_va)).item()
            f1 = f1_score(y_va, prob > 0.5, average="macro", zero_division=0)
            print(f"epoch {epoch:2d} | train {tr_loss:.4f} | val {va_loss:.4f} | val macro F1@0.5 {f1:.4f}")
    return net


# %%
net = fit(train_loader)
thresholds = pick_thresholds(predict(net, val_loader), y_va)
print("thresholds:", np.round(thresholds, 2))
pred = predict(net, test_loader) > thresholds
print(f"test macro F1 {f1_score(y_te, pred, average='macro', zero_division=0):.4f}  "
      f"micro F1 {f1_score(y_te, pred, average='micro', zero_division=0):.4f}  "
      f"subset accuracy {(pred == y_te.astype(bool)).all(1).mean():.4f}")
