# sklearn's 8x8 handwritten digits (pandas-free: just arrays), augmentation done on the batch tensors
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

SEED = 31
N_CLASSES = 10
MIX_ALPHA = 0.2
MIX_PROB = 0.8
PATCH = 2
EPOCHS = 26

rng = np.random.default_rng(SEED)
torch.manual_seed(SEED)


def prepare():
    bunch = load_digits()
    X = (bunch.images / 16.0).astype(np.float32)
    y = bunch.target.astype(np.int64)

    # sensor noise, so that the task is not entirely trivial
    X = X + 0.25 * rng.standard_normal(X.shape).astype(np.float32)

    # an unbalanced collection as in the field: odd digits are only kept with probability 0.2
    keep = (y % 2 == 0) | (rng.random(len(y)) < 0.2)
    X, y = X[keep], y[keep]

    X_train, X_val, y_train, y_val = train_test_split(X, y, test_size=0.3, random_state=SEED, stratify=y)
    X_train, y_train = oversample(X_train, y_train)
    mu, sigma = X_train.mean(), X_train.std()
    X_train = (X_train - mu) / sigma
    X_val = (X_val - mu) / sigma
    return X_train[:, None], y_train, X_val[:, None], y_val


def oversample(X, y):
    """Repeat rare classes until each has as many rows as the most common one."""
    most = np.bincount(y).max()
    rows = []
    for c in range(N_CLASSES):
        own = np.flatnonzero(y == c)
        rows.append(np.concatenate([own, rng.choice(own, most - len(own))]))
    rows = np.concatenate(rows)
    return X[rows], y[rows]


def random_shift(x):
    """Each image by -1, 0 or 1 pixels, zeros come in."""
    b, _, h, w = x.shape
    padded = F.pad(x, (1, 1, 1, 1), value=float(x.min()))
    tops = torch.randint(0, 3, (b,))
    lefts = torch.randint(0, 3, (b,))
    return torch.stack([p[:, t : t + h, l : l + w] for p, t, l in zip(padded, tops.tolist(), lefts.tolist())])


def erase(x, size):
    x = x.clone()
    h, w = x.shape[-2:]
    for k in range(len(x)):
        t = int(torch.randint(0, h - size + 1, (1,)))
        l = int(torch.randint(0, w - size + 1, (1,)))
        x[k, :, t : t + size, l : l + size] = 0.0
    return x


def mixup(x, target):
    lam = float(np.random.default_rng(int(torch.randint(1 << 30, (1,)))).beta(MIX_ALPHA, MIX_ALPHA))
    order = torch.randperm(len(x))
    mixed = lam * x + (1 - lam) * x[order]
    soft = lam * target + (1 - lam) * target[order]
    return mixed, soft


def make_model():
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32 * 16, 80),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(80, N_CLASSES),
    )


X_train, y_train, X_val, y_val = prepare()
print("train", X_train.shape, np.bincount(y_train), "val", X_val.shape, np.bincount(y_val))
train_dl = DataLoader(TensorDataset(torch.from_numpy(X_train), torch.from_numpy(y_train)), batch_size=50, shuffle=True)
xv, yv = torch.from_numpy(X_val), torch.from_numpy(y_val)

model = make_model()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
sched = torch.optim.lr_scheduler.ExponentialLR(opt, gamma=0.92)

for epoch in range(EPOCHS):
    model.train()
    seen, summed = 0, 0.0
    for xb, yb in train_dl:
        xb = erase(random_shift(xb), PATCH)
        target = F.one_hot(yb, N_CLASSES).float()
        if torch.rand(()) < MIX_PROB:
            xb, target = mixup(xb, target)
        loss = F.cross_entropy(model(xb), target)
        opt.zero_grad()
        loss.backward()
        opt.step()
        summed += float(loss.detach()) * len(xb)
        seen += len(xb)
    sched.step()

    model.eval()
    with torch.no_grad():
        logits = model(xv)
        val_loss = F.cross_entropy(logits, yv).item()
        hit = (logits.argmax(1) == yv).numpy()
    recall = [hit[y_val == c].mean() for c in range(N_CLASSES)]
    print(f"{epoch:2d} train {summed / seen:.3f} val {val_loss:.3f} acc {hit.mean():.3f} balanced acc {np.mean(recall):.3f}")

print(f"done: accuracy {hit.mean():.4f}, balanced accuracy {np.mean(recall):.4f}")
