# %% [markdown]
# # Multi-label stamps: depthwise-separable baseline (Kaggle notebook)
# %%
import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask


class CFG:
    seed = 2021
    size = 24
    n_images = 1000
    target_cols = ["square", "disc", "cross", "striped", "dark"]
    batch_size = 50
    lr = 3e-3
    weight_decay = 1e-2
    max_grad_norm = 5.0
    drop = 0.1


# %%
def load_data(rng):
    """Canvases with up to three stamps, some striped, some dark; a row of 0/1 each."""
    S = CFG.size
    labels = (rng.random((CFG.n_images, len(CFG.target_cols))) < 0.25).astype(np.float32)
    images = np.full((CFG.n_images, 3, S, S), 0.6, dtype=np.float32)
    tints = {"square": (0.9, 0.2, 0.2), "disc": (0.2, 0.8, 0.2), "cross": (0.2, 0.3, 0.9)}
    for image, row in zip(images, labels):
        if row[3]:
            image[:, :, ::4] -= 0.25
        for k, kind in enumerate(CFG.target_cols[:3]):
            if row[k]:
                width = int(rng.integers(7, 11))
                top, left = (int(v) for v in rng.integers(0, S - width + 1, 2))
                mask = shape_mask(kind, S, top, left, width).numpy()
                image[:, mask] = np.array(tints[kind], dtype=np.float32)[:, None] + 0.1 * rng.standard_normal((3, 1))
        if row[4]:
            image *= 0.6
    images += 0.05 * rng.standard_normal(images.shape).astype(np.float32)
    order = rng.permutation(len(images))
    return images[order], labels[order]


class TrainDataset(Dataset):
    def __init__(self, images, labels, augment=False):
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.images[idx]
        if self.augment and np.random.rand() < 0.5:
            image = image[:, :, ::-1]
        image = (image - 0.5) / 0.2
        return torch.from_numpy(np.ascontiguousarray(image)).float(), torch.from_numpy(self.labels[idx])


# %%
class SeparableConv(nn.Sequential):
    def __init__(self, c_in, c_out, stride):
        super().__init__(
            nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in, bias=False), nn.BatchNorm2d(c_in), nn.SiLU(),
            nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), nn.SiLU())


class GeM(nn.Module):
    def __init__(self, p=3, eps=1e-4):
        super().__init__()
        self.p, self.eps = nn.Parameter(torch.ones(1) * p), eps

    def forward(self, x):
        return x.clamp(min=self.eps).pow(self.p).mean(dim=(-2, -1)).pow(1.0 / self.p)


class StampModel(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 24, 3, 1, 1, bias=False), nn.BatchNorm2d(24), nn.SiLU(),
                                      SeparableConv(24, 48, 2), SeparableConv(48, 64, 2))
        self.pooling = GeM()
        self.dropout = nn.Dropout(CFG.drop)
        self.fc = nn.Linear(64, n_classes)

    def forward(self, images):
        features = self.pooling(self.backbone(images))
        logits = self.fc(self.dropout(features))
        return logits


# %%
def get_criterion(labels):
    pos = torch.from_numpy(labels).sum(0)
    neg = len(labels) - pos
    return nn.BCEWithLogitsLoss(pos_weight=neg / pos)


def train_fn(model, batch, optimizer, criterion):
    images, labels = batch
    optimizer.zero_grad()
    loss = criterion(model(images), labels)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(CFG.seed)
    np.random.seed(CFG.seed)
    images, labels = load_data(np.random.default_rng(CFG.seed))
    trn_x, val_x, trn_y, val_y = train_test_split(images, labels, test_size=0.2, random_state=CFG.seed)
    train_loader = DataLoader(TrainDataset(trn_x, trn_y, augment=True), CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(TrainDataset(val_x, val_y), CFG.batch_size * 2, shuffle=False)
    model = StampModel(len(CFG.target_cols))
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    return dict(model=model, train=train_loader, val=valid_loader, loss=get_criterion(trn_y), optimizer=optimizer, step=train_fn)
