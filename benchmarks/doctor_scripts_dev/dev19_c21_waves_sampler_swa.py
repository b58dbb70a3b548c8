"""Signals of four kinds, in very unequal numbers (as heart beats are): 1D ResNet, weighted sampler, SWA at the end."""

import argparse
import logging
import sys

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import confusion_matrix, f1_score
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from toydata import waves

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
log = logging.getLogger(__name__)
CLASSES = ["N", "S", "V", "F"]


class Beats(Dataset):
    def __init__(self, counts, seed, train):
        signals, labels = waves(5 * max(counts) + 200, seed=seed)
        index = torch.cat([(labels == c).nonzero().flatten()[:n] for c, n in enumerate(counts)])
        self.x, self.y, self.train = signals[index], labels[index], train
        self.x = self.x + 0.45 * torch.randn(self.x.shape, generator=torch.Generator().manual_seed(100 + seed))  # poor electrodes
        # each record by its own mean and deviation, as with ECG leads
        self.x = (self.x - self.x.mean(-1, keepdim=True)) / self.x.std(-1, keepdim=True)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = self.x[i]
        if self.train:
            x = x * (1 + 0.1 * torch.randn(())) + 0.1 * torch.randn_like(x)
            if torch.rand(()) < 0.5:
                x = -x  # all kinds have any phase
        return x, self.y[i]

    def sampler(self):
        counts = torch.bincount(self.y)
        return WeightedRandomSampler((1.0 / counts.double())[self.y], num_samples=len(self), replacement=True)


class ResBlock1d(nn.Module):
    def __init__(self, cin, cout, kernel, stride):
        super().__init__()
        pad = kernel // 2
        self.main = nn.Sequential(
            nn.Conv1d(cin, cout, kernel, stride, pad, bias=False),
            nn.BatchNorm1d(cout),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv1d(cout, cout, kernel, 1, pad, bias=False),
            nn.BatchNorm1d(cout),
        )
        self.short = nn.Sequential(nn.Conv1d(cin, cout, 1, stride, bias=False), nn.BatchNorm1d(cout))
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.main(x) + self.short(x))


def build():
    return nn.Sequential(
        ResBlock1d(1, 16, 7, 1),
        ResBlock1d(16, 32, 7, 2),
        ResBlock1d(32, 48, 5, 2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(48, len(CLASSES)),
    )


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    y_true, y_pred = [], []
    for x, y in loader:
        y_pred.append(model(x).argmax(1).numpy())
        y_true.append(y.numpy())
    y_true, y_pred = np.concatenate(y_true), np.concatenate(y_pred)
    return f1_score(y_true, y_pred, average="macro"), confusion_matrix(y_true, y_pred)


def run(epochs, swa_start, batch_size, lr, swa_lr):
    train_set = Beats([1200, 300, 150, 90], seed=0, train=True)
    val_set = Beats([240, 60, 40, 40], seed=1, train=False)
    train_loader = DataLoader(train_set, batch_size, sampler=train_set.sampler())
    val_loader = DataLoader(val_set, 190)
    log.info("training records per class: %s", torch.bincount(train_set.y).tolist())

    model = build()
    swa_model = AveragedModel(model)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=swa_start, eta_min=swa_lr)
    swa_scheduler = SWALR(optimizer, swa_lr=swa_lr, anneal_epochs=2)

    for epoch in range(epochs):
        model.train()
        losses = []
        for x, y in train_loader:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if epoch >= swa_start:
            swa_model.update_parameters(model)
            swa_scheduler.step()
        else:
            scheduler.step()
        f1, _ = evaluate(model, val_loader)
        log.info("epoch %2d loss %.4f val macro F1 %.4f%s", epoch, np.mean(losses), f1, " (SWA)" if epoch >= swa_start else "")

    update_bn(train_loader, swa_model)
    f1, matrix = evaluate(swa_model, val_loader)
    log.info("SWA: val macro F1 %.4f\n%s", f1, matrix)
    return f1


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=22)
    ap.add_argument("--swa-start", type=int, default=15)
    ap.add_argument("--batch-size", type=int, default=64)
    ap.add_argument("--lr", type=float, default=0.05)
    ap.add_argument("--swa-lr", type=float, default=0.01)
    ap.add_argument("--seed", type=int, default=3)
    options = vars(ap.parse_args())
    torch.manual_seed(options.pop("seed"))
    run(**options)
