# %% [markdown]
# # Heartbeat classification: 1D CNN + mixup (2 leads, 4 beat types)

# %%

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

class CFG:
    seed = 2021
    n_classes = 4
    length = 128
    batch_size = 64
    lr = 2e-3
    weight_decay = 1e-4
    mixup_alpha = 0.4

# %%
def make_beats(n, seed):
    """ADC counts, shape (n, length, leads), like the .npy of the competition."""
    rng = np.random.default_rng(seed)
    t = np.arange(CFG.length)
    y = rng.choice(CFG.n_classes, size=n, p=[0.4, 0.2, 0.2, 0.2])

    def bump(center, width):
        return np.exp(-0.5 * ((t[None] - center[:, None]) / width[:, None]) ** 2)

    r = 55 + rng.normal(0, 5, n)
    qrs_width = np.where(y == 1, 7.0, 2.5) * rng.uniform(0.85, 1.15, n)  # 1: wide ventricular beat
    t_sign = np.where(y == 2, -1.0, 1.0)  # 2: inverted T wave
    p_size = np.where(y == 3, 0.0, 0.35)  # 3: no P wave, early second peak
    lead1 = bump(r, qrs_width) + t_sign[:, None] * 0.4 * bump(r + 35, np.full(n, 7.0))
    lead1 = lead1 + p_size[:, None] * bump(r - 22, np.full(n, 4.0)) + (y == 3)[:, None] * 0.5 * bump(r + 16, np.full(n, 2.0))
    lead2 = -0.6 * lead1 - 0.3 * bump(r + 5, np.full(n, 3.0))
    x = np.stack([lead1, lead2], axis=2) * rng.uniform(0.8, 1.2, (n, 1, 1)) + rng.normal(0, 0.06, (n, CFG.length, 2))
    return (1024 + 200 * x).astype(np.float32), y.astype(np.int64)

# %%
class BeatDataset(Dataset):
    def __init__(self, x, y, mean, std):
        x = torch.from_numpy((x - mean) / std)
        self.x = x.permute(0, 2, 1).contiguous()  # -> (n, leads, length)
        self.y = torch.from_numpy(y)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]

# %%
class ConvBlock(nn.Module):
    def __init__(self, c_in, c_out, k=7):
        super().__init__()
        self.conv = nn.Conv1d(c_in, c_out, k, padding=k // 2, bias=False)
        self.bn = nn.BatchNorm1d(c_out)

    def forward(self, x):
        return F.max_pool1d(F.relu(self.bn(self.conv(x))), 2)

class BeatNet(nn.Module):
    def __init__(self, n_classes=CFG.n_classes):
        super().__init__()
        self.blocks = nn.Sequential(ConvBlock(2, 16), ConvBlock(16, 32), ConvBlock(32, 48))
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(48 * 2, n_classes)

    def forward(self, x):
        x = self.blocks(x)
        x = torch.cat([x.mean(-1), x.amax(-1)], dim=1)
        return self.fc(self.drop(x))

# %%
def mixup(x, y):
    lam = float(np.random.beta(CFG.mixup_alpha, CFG.mixup_alpha))
    lam = max(lam, 1 - lam)
    idx = torch.randperm(x.size(0))
    return lam * x + (1 - lam) * x[idx], y, y[idx], lam

def train_fn(model, batch, optimizer, criterion):
    model.train()
    x, y = batch
    optimizer.zero_grad()
    x, y_a, y_b, lam = mixup(x, y)
    out = model(x)
    loss = lam * criterion(out, y_a) + (1 - lam) * criterion(out, y_b)
    loss.backward()
    optimizer.step()
    return loss.detach()

# %%
def setup():
    torch.manual_seed(CFG.seed)
    np.random.seed(CFG.seed)
    x_train, y_train = make_beats(1400, seed=CFG.seed)
    x_valid, y_valid = make_beats(400, seed=CFG.seed + 1)
    mean, std = x_train.mean(), x_train.std()
    train_ds = BeatDataset(x_train, y_train, mean, std)
    valid_ds = BeatDataset(x_valid, y_valid, mean, std)
    model = BeatNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    return {
        "model": model,
        "train": DataLoader(train_ds, batch_size=CFG.batch_size, shuffle=True, drop_last=True),
        "val": DataLoader(valid_ds, batch_size=128, shuffle=False),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": optimizer,
        "step": train_fn,
        "task": "classify",
    }
