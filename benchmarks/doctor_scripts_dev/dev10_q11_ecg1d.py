"""Rhythm classes from two-lead signals: patients, overlapping windows, rare classes, a 1-D CNN."""

import copy
import logging
import math

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
log = logging.getLogger("ecg")

CONFIG = {
    "classes": ["normal", "fast", "flutter", "ectopic"],
    "shares": [0.55, 0.2, 0.13, 0.12],
    "patients": 140,
    "record": 256,
    "window": 96,
    "hop": 32,
    "batch_size": 32,
    "epochs": 14,
    "lr": 3e-3,
    "weight_decay": 1e-3,
    "patience": 8,
}


def make_records(seed=0):
    """One record of two leads for each patient; each patient has a form of beat and a wander of their own."""
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(CONFIG["record"]) / 100.0
    records, labels = [], []
    for _ in range(CONFIG["patients"]):
        label = int(torch.multinomial(torch.tensor(CONFIG["shares"]), 1, generator=g))
        u = torch.rand(8, generator=g)
        rate = {0: 3.0, 1: 5.0, 2: 9.0, 3: 3.0}[label] * (0.75 + 0.5 * u[0])
        phase = (t * rate + u[1]) % 1.0
        beat = torch.exp(-((phase - 0.3) ** 2) / (0.002 + 0.006 * u[2])) - (0.2 + 0.3 * u[3]) * torch.exp(-((phase - 0.45) ** 2) / 0.004)
        if label == 3:
            odd = ((t * rate + u[1]).floor() % 2) == 0
            beat = torch.where(odd, -1.2 * torch.exp(-((phase - 0.35) ** 2) / 0.02), beat)
        wander = 0.4 * torch.sin(6.28 * (0.3 * t + u[4])) + u[5]
        second = (0.3 + 0.5 * u[6]) * beat.roll(3)
        signal = torch.stack([beat + wander, second - wander]) * (0.7 + 0.6 * u[7])
        records.append(signal + 0.45 * torch.randn(signal.shape, generator=g))
        labels.append(label)
    return records, labels


def cut(records, labels, patients):
    windows = []
    for p in patients:
        for start in range(0, CONFIG["record"] - CONFIG["window"] + 1, CONFIG["hop"]):
            windows.append((records[p][:, start : start + CONFIG["window"]], labels[p]))
    return windows


def zscore(x):
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)


class WindowSet(Dataset):
    def __init__(self, windows, augment=False):
        self.windows, self.augment = windows, augment

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, i):
        x, y = self.windows[i]
        x = zscore(x)
        if self.augment:
            x = x * (0.9 + 0.2 * torch.rand(2, 1)) + 0.05 * torch.randn_like(x)
            x = time_stretch(x, 0.95, 1.05)
        return x, y


def time_stretch(x, low, high):
    n = x.shape[-1]
    factor = low + (high - low) * torch.rand(()).item()
    y = nn.functional.interpolate(x[None], size=math.ceil(n * factor), mode="linear", align_corners=False)[0]
    return y[:, :n] if y.shape[-1] >= n else nn.functional.pad(y[None], (0, n - y.shape[-1]), mode="replicate")[0]


class ECGNet(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        channels = [2, 16, 32, 48]
        self.stages = nn.ModuleList()
        for i, o in zip(channels[:-1], channels[1:]):
            self.stages.append(nn.Sequential(nn.Conv1d(i, o, 7, padding=3), nn.BatchNorm1d(o), nn.ReLU(), nn.MaxPool1d(2)))
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(2 * channels[-1], n_classes)

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        x = torch.cat([x.mean(-1), x.amax(-1)], 1)
        return self.fc(self.drop(x))


def class_weights(windows):
    counts = torch.bincount(torch.tensor([y for _, y in windows]), minlength=4).float()
    return counts.sum() / (len(counts) * counts)


def macro_f1(pred, true, n):
    scores = []
    for c in range(n):
        tp = ((pred == c) & (true == c)).sum().item()
        fp, fn = ((pred == c) & (true != c)).sum().item(), ((pred != c) & (true == c)).sum().item()
        scores.append(2 * tp / max(1, 2 * tp + fp + fn))
    return sum(scores) / n


@torch.no_grad()
def evaluate(model, loader, n):
    model.eval()
    preds, trues = [], []
    for x, y in loader:
        preds.append(model(x).argmax(1))
        trues.append(y)
    pred, true = torch.cat(preds), torch.cat(trues)
    return macro_f1(pred, true, n), (pred == true).float().mean().item()


def main():
    torch.manual_seed(9)
    records, labels = make_records()
    order = torch.randperm(len(records)).tolist()
    n_val = len(order) // 4
    train_windows, val_windows = cut(records, labels, order[n_val:]), cut(records, labels, order[:n_val])
    log.info("%d windows to train on, %d to validate on", len(train_windows), len(val_windows))
    train_loader = DataLoader(WindowSet(train_windows, augment=True), CONFIG["batch_size"], shuffle=True)
    val_loader = DataLoader(WindowSet(val_windows), 64)

    n = len(CONFIG["classes"])
    model = ECGNet(n)
    criterion = nn.CrossEntropyLoss(weight=class_weights(train_windows))
    optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG["lr"], weight_decay=CONFIG["weight_decay"])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, CONFIG["lr"], epochs=CONFIG["epochs"], steps_per_epoch=len(train_loader))
    best, best_state, wait = 0.0, None, 0
    for epoch in range(CONFIG["epochs"]):
        model.train()
        total = 0.0
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(y)
        f1, accuracy = evaluate(model, val_loader, n)
        log.info("epoch %d loss %.4f macro-F1 %.4f accuracy %.4f", epoch, total / len(train_loader.dataset), f1, accuracy)
        if f1 > best:
            best, best_state, wait = f1, copy.deepcopy(model.state_dict()), 0
        else:
            wait += 1
            if wait >= CONFIG["patience"]:
                break
    model.load_state_dict(best_state)
    f1, accuracy = evaluate(model, val_loader, n)
    log.info("restored best: macro-F1 %.4f accuracy %.4f", f1, accuracy)


if __name__ == "__main__":
    main()
