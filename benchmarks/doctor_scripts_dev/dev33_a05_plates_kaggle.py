# === Steel plate defects: baseline CNN + EMA, fold 0 ===
# v7: + EMA, + rot90 aug, sampler instead of class weights (CV up)
import copy
import os
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler


class CFG:
    seed = 42
    size = 24
    n_plates = 700
    n_shots = 3  # each plate was photographed three times
    classes = ["ok", "scratch", "spot", "ring"]
    shares = [0.46, 0.22, 0.18, 0.14]
    n_fold = 5
    epochs = 20
    train_bs = 32
    valid_bs = 16
    lr = 2e-3
    wd = 1e-2
    ema_decay = 0.98


def seed_everything(seed):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


# ------------------------------------------------------------------ data
def load_train():
    rng = np.random.default_rng(CFG.seed)
    yy, xx = np.mgrid[0 : CFG.size, 0 : CFG.size]
    images, labels, plates = [], [], []
    for plate in range(CFG.n_plates):
        label = int(rng.choice(len(CFG.classes), p=CFG.shares))
        name = CFG.classes[label]
        base = 0.5 + 0.1 * np.kron(rng.standard_normal((6, 6)), np.ones((4, 4)))
        cy, cx = rng.uniform(6, 17, 2)
        r = np.hypot(yy - cy, xx - cx)
        if name == "scratch":
            t = rng.uniform(0, np.pi)
            along = (xx - cx) * np.cos(t) + (yy - cy) * np.sin(t)
            across = (yy - cy) * np.cos(t) - (xx - cx) * np.sin(t)
            base = base + 0.5 * ((np.abs(along) < 6) & (np.abs(across) < 0.9))
        elif name == "spot":
            base = base - 0.6 * np.exp(-((r / 2.5) ** 2))
        elif name == "ring":
            base = base + 0.5 * (np.abs(r - 4) < 0.9)
        for _ in range(CFG.n_shots):
            shot = base + rng.normal(0, 0.04, base.shape) + rng.uniform(-0.05, 0.05)
            images.append(np.clip(shot, 0, 1).astype(np.float32))
            labels.append(label)
            plates.append(plate)
    return np.stack(images), np.array(labels), np.array(plates)


class PlateDataset(Dataset):
    def __init__(self, images, labels, train):
        self.images, self.labels, self.train = images, labels, train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        x = torch.from_numpy(self.images[i])[None]
        if self.train:
            x = torch.rot90(x, int(torch.randint(0, 4, (1,))), (1, 2))
            if torch.rand(1).item() < 0.5:
                x = x.flip(2)
        return (x - 0.5) / 0.2, int(self.labels[i])


# ------------------------------------------------------------------ model
class PlateNet(nn.Module):
    def __init__(self, n_classes):
        super().__init__()

        def block(i, o):
            return [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]

        self.encoder = nn.Sequential(
            *block(1, 16), nn.MaxPool2d(2), *block(16, 32), nn.MaxPool2d(2), *block(32, 64)
        )
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(128, n_classes)

    def forward(self, x):
        f = self.encoder(x)
        f = torch.cat([f.mean((2, 3)), f.amax((2, 3))], dim=1)
        return self.fc(self.drop(f))


class EMA:
    def __init__(self, model, decay):
        self.decay = decay
        self.module = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for e, p in zip(self.module.parameters(), model.parameters()):
            e.lerp_(p, 1 - self.decay)
        for e, b in zip(self.module.buffers(), model.buffers()):
            e.copy_(b)


class AverageMeter:
    def __init__(self):
        self.sum, self.n = 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.n += n

    @property
    def avg(self):
        return self.sum / max(self.n, 1)


# ------------------------------------------------------------------ loops
def train_fn(loader, model, ema, criterion, optimizer, scheduler):
    model.train()
    losses = AverageMeter()
    for x, y in loader:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        ema.update(model)
        losses.update(loss.item(), len(y))
    return losses.avg


def get_score(y_true, y_pred):
    return f1_score(y_true, y_pred, labels=list(range(len(CFG.classes))), average="macro", zero_division=0)


@torch.no_grad()
def valid_fn(loader, model):
    model.eval()
    y_true, y_pred = [], []
    for x, y in loader:
        y_pred.append(model(x).argmax(1).numpy())
        y_true.append(y.numpy())
    return get_score(np.concatenate(y_true), np.concatenate(y_pred))


def main():
    seed_everything(CFG.seed)
    images, labels, plates = load_train()
    skf = StratifiedGroupKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    trn_idx, val_idx = next(iter(skf.split(images, labels, groups=plates)))
    print(f"train {len(trn_idx)} valid {len(val_idx)}", np.bincount(labels[trn_idx]))

    class_weights = 1.0 / np.bincount(labels[trn_idx], minlength=len(CFG.classes))
    sample_weights = class_weights[labels[trn_idx]]
    sampler = WeightedRandomSampler(torch.from_numpy(sample_weights), num_samples=len(trn_idx), replacement=True)
    trn_ds = PlateDataset(images[trn_idx], labels[trn_idx], train=True)
    val_ds = PlateDataset(images[val_idx], labels[val_idx], train=False)
    trn_dl = DataLoader(trn_ds, batch_size=CFG.train_bs, sampler=sampler, drop_last=True)
    val_dl = DataLoader(val_ds, batch_size=CFG.valid_bs, shuffle=False)

    model = PlateNet(len(CFG.classes))
    ema = EMA(model, CFG.ema_decay)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.wd)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=CFG.epochs * len(trn_dl), eta_min=1e-5)

    best = 0.0
    for epoch in range(CFG.epochs):
        loss = train_fn(trn_dl, model, ema, criterion, optimizer, scheduler)
        score = valid_fn(val_dl, ema.module)
        best = max(best, score)
        print(f"Epoch {epoch + 1:02d} - loss {loss:.4f} - macro F1 {score:.4f} - best {best:.4f}")
    print(f"========== fold 0 CV: {best:.4f} ==========")


if __name__ == "__main__":
    main()
