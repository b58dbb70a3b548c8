import copy

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, f1_score
from sklearn.model_selection import GroupShuffleSplit
from torch import nn
from torch.utils.data import DataLoader, Dataset

ACTIVITIES = ["sit", "stand", "walk", "upstairs", "downstairs", "run"]
FS, WINDOW = 50, 128
SEED = 3
EPOCHS = 16
BATCH = 64
LR = 2e-3


def rotation(angles):
    a, b, c = angles
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rx @ ry @ rz


def simulate_subject(rng, windows_per_activity):
    """Three-axis accelerometer windows of one person, shape (n, WINDOW, 3)."""
    mount = rotation(rng.uniform(-0.35, 0.35, 3))
    tempo, power = rng.uniform(0.87, 1.15), rng.uniform(0.75, 1.3)
    shape = rng.uniform(0.6, 1.4, (6, 3, 3))
    sit_lean = rng.uniform(0.35, 0.9)
    freq = [0.3, 0.4, 1.8, 1.5, 2.05, 2.7]
    gain = [0.02, 0.04, 0.35, 0.33, 0.42, 0.95]
    harm = [(1, .3, .1), (1, .3, .1), (1, .5, .2), (1, .25, .1), (.8, .7, .5), (1, .4, .2)]
    axes = np.array([0.5, 0.35, 1.0])
    xs, ys = [], []
    t = np.arange(WINDOW) / FS
    for label in range(6):
        for _ in range(windows_per_activity):
            f = freq[label] * tempo * rng.normal(1, 0.03)
            phase = rng.uniform(0, 2 * np.pi)
            sig = np.zeros((WINDOW, 3))
            for k in range(3):
                wave = np.sin(2 * np.pi * f * (k + 1) * t + (k + 1) * phase)
                sig += harm[label][k] * wave[:, None] * axes * shape[label, k]
            sig *= gain[label] * power * rng.normal(1, 0.08)
            lean = sit_lean if label == 0 else 0.0
            gravity = np.array([np.sin(lean), 0.0, np.cos(lean)])
            sig = (sig + gravity) @ mount.T
            xs.append(sig + rng.normal(0, 0.06, sig.shape))
            ys.append(label)
    return np.array(xs, dtype=np.float32), np.array(ys)


def load_data(n_subjects=18, windows_per_activity=20):
    rng = np.random.default_rng(SEED)
    x, y, groups = [], [], []
    for s in range(n_subjects):
        xs, ys = simulate_subject(rng, windows_per_activity)
        x.append(xs)
        y.append(ys)
        groups.append(np.full(len(ys), s))
    x = np.concatenate(x).transpose(0, 2, 1).copy()
    return x, np.concatenate(y), np.concatenate(groups)


class Windows(Dataset):
    def __init__(self, x, y, augment=False, seed=0):
        self.x, self.y, self.augment = x, y, augment
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = self.x[i]
        if self.augment:
            x = x * self.rng.uniform(0.85, 1.15)
            x = x + self.rng.normal(0, 0.15, x.shape)
        return torch.from_numpy(x.astype(np.float32)), int(self.y[i])


def conv_block(c_in, c_out, k):
    return nn.Sequential(
        nn.Conv1d(c_in, c_out, k, padding=k // 2, bias=False), nn.BatchNorm1d(c_out), nn.ReLU(), nn.MaxPool1d(2))


class HARNet(nn.Module):
    def __init__(self, n_classes=6):
        super().__init__()
        self.trunk = nn.Sequential(
            conv_block(3, 32, 9), conv_block(32, 48, 5), conv_block(48, 64, 5),
            nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(64, n_classes)

    def forward(self, x):
        return self.fc(self.drop(self.trunk(x)))


@torch.no_grad()
def predict_proba(model, x):
    model.eval()
    return np.concatenate([
        torch.softmax(model(torch.from_numpy(x[i:i + 256])), 1).numpy() for i in range(0, len(x), 256)])


def fit(x_tr, y_tr, x_va, y_va, seed=SEED):
    torch.manual_seed(seed)
    train_loader = DataLoader(Windows(x_tr, y_tr, augment=True, seed=seed), batch_size=BATCH, shuffle=True)
    model = HARNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    best_f1, best_weights = -1.0, None
    for epoch in range(EPOCHS):
        model.train()
        seen, loss_sum = 0, 0.0
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(yb)
            seen += len(yb)
        scheduler.step()
        val_f1 = f1_score(y_va, predict_proba(model, x_va).argmax(1), average="macro")
        print(f"[{epoch + 1:02d}/{EPOCHS}] loss {loss_sum / seen:.4f}  val macro-F1 {val_f1:.3f}")
        if val_f1 > best_f1:
            best_f1, best_weights = val_f1, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    return model


def split(groups, test_size, seed):
    gss = GroupShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
    return next(gss.split(groups, groups=groups))


if __name__ == "__main__":
    x, y, groups = load_data()
    rest, test = split(groups, 0.28, SEED)
    tr, va = split(groups[rest], 0.25, SEED + 1)
    train, val = rest[tr], rest[va]
    print(f"windows: train {len(train)}, val {len(val)}, test {len(test)}")

    mean = x[train].mean(axis=(0, 2), keepdims=True)
    std = x[train].std(axis=(0, 2), keepdims=True)
    x = (x - mean) / std
    net = fit(x[train], y[train], x[val], y[val])

    pred = predict_proba(net, x[test]).argmax(1)
    print("test accuracy %.3f   macro-F1 %.3f" % ((pred == y[test]).mean(), f1_score(y[test], pred, average="macro")))
    for name, row in zip(ACTIVITIES, confusion_matrix(y[test], pred)):
        print(f"{name:>10s} ", row)
