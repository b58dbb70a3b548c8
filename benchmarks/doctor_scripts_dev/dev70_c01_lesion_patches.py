"""Benign / malignant classification of skin patches, several patches per patient."""
import copy
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from torch.utils.data import DataLoader, Dataset


@dataclass
class CFG:
    seed: int = 42
    n_patients: int = 360
    prevalence: float = 0.18
    size: int = 28
    batch_size: int = 64
    lr: float = 3e-3
    weight_decay: float = 1e-3
    epochs: int = 10
    patience: int = 5


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_cohort(cfg):
    rng = np.random.default_rng(cfg.seed)
    s = cfg.size
    yy, xx = np.mgrid[:s, :s].astype(np.float32)
    images, labels, patients = [], [], []
    for pid in range(cfg.n_patients):
        malignant = int(rng.random() < cfg.prevalence)
        skin = gaussian_filter(rng.normal(size=(s, s)), 2.0)
        skin = 0.35 * skin / skin.std()
        ang, freq = rng.uniform(0, np.pi), rng.uniform(0.5, 2.0)
        skin += 0.3 * np.sin(freq * (xx * np.cos(ang) + yy * np.sin(ang)))
        gain, offset = rng.uniform(0.8, 1.2), rng.normal(0, 0.2)
        for _ in range(rng.integers(4, 9)):
            cx, cy = rng.uniform(11, 17, size=2)
            theta, dist = np.arctan2(yy - cy, xx - cx), np.hypot(yy - cy, xx - cx)
            wobble = rng.uniform(0.18, 0.42) if malignant else rng.uniform(0.0, 0.24)
            lobes = rng.integers(4, 7)
            radius = rng.uniform(5.5, 8.0) * (1 + wobble * np.cos(lobes * theta + rng.uniform(0, 6.3)))
            lesion = 1.0 / (1.0 + np.exp((dist - radius) / 0.5))
            img = gain * (skin + rng.uniform(1.0, 1.5) * lesion) + offset
            images.append(img + rng.normal(0, 0.15, size=(s, s)))
            labels.append(malignant)
            patients.append(pid)
    return np.stack(images).astype(np.float32), np.array(labels), np.array(patients)


class PatchDataset(Dataset):
    def __init__(self, images, labels, mean, std, train=False):
        self.images = torch.from_numpy((images - mean) / std).unsqueeze(1)
        self.labels = torch.from_numpy(labels).float()
        self.train = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        img = self.images[i]
        if self.train:
            img = torch.rot90(img, int(torch.randint(4, (1,))), dims=(1, 2))
            if torch.rand(1) < 0.5:
                img = img.flip(2)
        return img, self.labels[i]


class LesionNet(nn.Module):
    def __init__(self):
        super().__init__()
        def block(cin, cout):
            return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False),
                                 nn.BatchNorm2d(cout), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.backbone = nn.Sequential(block(1, 16), block(16, 32), block(32, 64))
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(64 * 9, 1)

    def forward(self, x):
        return self.fc(self.drop(self.backbone(x).flatten(1))).squeeze(1)


class EarlyStopping:
    def __init__(self, patience, mode="max"):
        self.patience, self.mode = patience, mode
        self.best, self.state, self.counter = None, None, 0

    def step(self, value, model):
        better = self.best is None or (value > self.best if self.mode == "max" else value < self.best)
        if better:
            self.best, self.counter = value, 0
            self.state = copy.deepcopy(model.state_dict())
        else:
            self.counter += 1
        return self.counter >= self.patience


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    total, seen = 0.0, 0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        seen += len(y)
    return total / seen


@torch.no_grad()
def predict(model, loader):
    model.eval()
    logits, targets = [], []
    for x, y in loader:
        logits.append(model(x))
        targets.append(y)
    return torch.cat(logits).sigmoid().numpy(), torch.cat(targets).numpy()


def main():
    cfg = CFG()
    seed_everything(cfg.seed)
    X, y, pid = make_cohort(cfg)
    splitter = StratifiedGroupKFold(n_splits=5, shuffle=True, random_state=cfg.seed)
    folds = [held for _, held in splitter.split(X, y, groups=pid)]
    te, va, tr = folds[0], folds[1], np.concatenate(folds[2:])
    mean, std = X[tr].mean(), X[tr].std()
    print(f"patches train/val/test {len(tr)}/{len(va)}/{len(te)}, positives {y.mean():.3f}")

    train_ds = PatchDataset(X[tr], y[tr], mean, std, train=True)
    train_dl = DataLoader(train_ds, batch_size=cfg.batch_size, shuffle=True, drop_last=True)
    val_dl = DataLoader(PatchDataset(X[va], y[va], mean, std), batch_size=256)
    test_dl = DataLoader(PatchDataset(X[te], y[te], mean, std), batch_size=256)

    model = LesionNet()
    pos_weight = torch.tensor((y[tr] == 0).sum() / (y[tr] == 1).sum(), dtype=torch.float32)
    criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=2)
    stopper = EarlyStopping(cfg.patience, mode="max")

    for epoch in range(cfg.epochs):
        loss = train_one_epoch(model, train_dl, criterion, optimizer)
        val_prob, val_true = predict(model, val_dl)
        auc = roc_auc_score(val_true, val_prob)
        scheduler.step(auc)
        print(f"epoch {epoch:02d} loss {loss:.4f} val_auc {auc:.4f}")
        if stopper.step(auc, model):
            print("early stopping")
            break

    model.load_state_dict(stopper.state)
    prob, true = predict(model, test_dl)
    print(f"test auc {roc_auc_score(true, prob):.4f}  ap {average_precision_score(true, prob):.4f}")
    groups = pid[te]
    per_patient = [(true[groups == g].max(), prob[groups == g].mean()) for g in np.unique(groups)]
    pt, pp = zip(*per_patient)
    print(f"patient-level test auc {roc_auc_score(pt, pp):.4f}")


if __name__ == "__main__":
    main()
