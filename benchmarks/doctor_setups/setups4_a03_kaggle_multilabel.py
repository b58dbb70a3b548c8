# %% [markdown]
# # Which symbols are in the picture? Multi-label baseline (PyTorch, 5 folds, fold 0 only)

# %%
import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import KFold
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask


class CFG:
    seed = 2024
    n_images = 1200
    size = 24
    n_classes = 4
    n_fold = 5
    train_bs = 32
    valid_bs = 64
    accumulate = 2
    encoder_lr = 2e-3
    head_lr = 4e-3


# %%
def make_images(n, size, seed):
    """Each of four symbols (square, disc, cross, frame) is there with probability 0.4, in a quarter of its own choice."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0.4, 0.06, (n, size, size)).astype(np.float32)
    labels = (rng.random((n, CFG.n_classes)) < 0.4).astype(np.float32)
    half = size // 2
    for i in range(n):
        places = rng.permutation(4)
        for k in np.flatnonzero(labels[i]):
            top, left = half * (places[k] // 2), half * (places[k] % 2)
            width = int(rng.integers(7, 10))
            top, left = int(top + rng.integers(0, half - width)), int(left + rng.integers(0, half - width))
            mask = shape_mask(("square", "disc", "cross", "square")[k], size, top, left, width).numpy()
            if k == 3:
                mask &= ~shape_mask("square", size, top + 2, left + 2, width - 4).numpy()
            images[i][mask] += 0.5
    return images, labels


class SymbolDataset(Dataset):
    def __init__(self, images, labels, train=False):
        self.images, self.labels, self.train = images, labels, train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = torch.from_numpy(self.images[idx]).unsqueeze(0)
        if self.train and torch.rand(()) < 0.5:
            image = image.flip(-1)
        return (image - 0.49) / 0.2, torch.from_numpy(self.labels[idx])


# %%
def conv_bn(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class SymbolModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            conv_bn(1, 16), nn.MaxPool2d(2), conv_bn(16, 32), conv_bn(32, 32), nn.MaxPool2d(2), conv_bn(32, 64)
        )
        self.head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, CFG.n_classes))

    def forward(self, x):
        return self.head(self.encoder(x))


class Trainer:
    def __init__(self):
        self.i = 0

    def __call__(self, model, batch, optimizer, criterion):
        images, labels = batch
        loss = criterion(model(images), labels)
        (loss / CFG.accumulate).backward()
        self.i += 1
        if self.i % CFG.accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss


# %%
def setup():
    torch.manual_seed(CFG.seed)
    images, labels = make_images(CFG.n_images, CFG.size, CFG.seed)
    order = np.random.default_rng(CFG.seed).permutation(len(images))
    images, labels = images[order], labels[order]

    kf = KFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    trn_idx, val_idx = list(kf.split(images))[0]
    train_ds = SymbolDataset(images[trn_idx], labels[trn_idx], train=True)
    valid_ds = SymbolDataset(images[val_idx], labels[val_idx])
    train_loader = DataLoader(train_ds, batch_size=CFG.train_bs, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_ds, batch_size=CFG.valid_bs, shuffle=False)

    model = SymbolModel()
    optimizer = torch.optim.Adam([
        {"params": model.encoder.parameters(), "lr": CFG.encoder_lr},
        {"params": model.head.parameters(), "lr": CFG.head_lr},
    ])
    criterion = nn.BCEWithLogitsLoss()
    return dict(model=model, train=train_loader, val=valid_loader, loss=criterion, optimizer=optimizer,
                step=Trainer(), task="classify")
