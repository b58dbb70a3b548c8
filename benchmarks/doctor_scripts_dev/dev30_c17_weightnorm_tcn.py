"""Sounds of four kinds, two of them rare: dilated convolutions with weight norm, cross entropy with class weights."""

import copy
import logging

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

logging.basicConfig(level=logging.INFO, format="%(message)s")
log = logging.getLogger("tcn")

KEEP = torch.tensor([0.25, 1.0, 1.0, 0.4])  # share of each class that is kept for training


class Residual(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.conv1 = weight_norm(nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation))
        self.conv2 = weight_norm(nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation))
        self.activation = nn.LeakyReLU(0.1)

    def forward(self, x):
        return x + self.conv2(self.activation(self.conv1(self.activation(x))))


class TCN(nn.Module):
    def __init__(self, classes=4, channels=24):
        super().__init__()
        self.stem = weight_norm(nn.Conv1d(1, channels, 7, padding=3))
        self.blocks = nn.Sequential(*(Residual(channels, 2**i) for i in range(4)))
        self.head = nn.Linear(2 * channels, classes)

    def forward(self, x):
        x = nn.functional.leaky_relu(self.blocks(self.stem(x)), 0.1)
        return self.head(torch.cat([x.mean(-1), x.amax(-1)], dim=1))


def prepare():
    signals, labels = waves(2400, seed=0)
    generator = torch.Generator().manual_seed(2)
    keep = torch.rand(len(labels), generator=generator) < KEEP[labels]
    signals, labels = signals[keep], labels[keep]
    mean, std = signals.mean(), signals.std()
    val_signals, val_labels = waves(400, seed=1)
    train = TensorDataset((signals - mean) / std, labels)
    val = TensorDataset((val_signals - mean) / std, val_labels)
    return train, val, torch.bincount(labels, minlength=4)


@torch.no_grad()
def balanced_accuracy(model, loader):
    model.eval()
    confusion = torch.zeros(4, 4)
    for x, y in loader:
        for truth, guess in zip(y.tolist(), model(x).argmax(1).tolist()):
            confusion[truth, guess] += 1
    recall = confusion.diag() / confusion.sum(1).clamp(min=1)
    return recall.mean().item(), recall


def main(epochs=12, patience=6):
    torch.manual_seed(0)
    train, val, counts = prepare()
    log.info("samples of each class: %s", counts.tolist())
    weights = counts.sum() / (len(counts) * counts.float())
    train_loader = DataLoader(train, batch_size=32, shuffle=True)
    val_loader = DataLoader(val, batch_size=100)

    model = TCN()
    criterion = nn.CrossEntropyLoss(weight=weights)
    optimizer = torch.optim.RAdam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=1e-5)
    best, best_state, waited = 0.0, None, 0
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for x, y in train_loader:
            x = x * (0.8 + 0.4 * torch.rand(len(x), 1, 1))  # louder, softer
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            total += loss.item()
        scheduler.step()
        score, recall = balanced_accuracy(model, val_loader)
        log.info(
            "epoch %2d  loss %.4f  balanced accuracy %.3f  %s",
            epoch + 1, total / len(train_loader), score, [round(r, 2) for r in recall.tolist()],
        )
        if score > best:
            best, best_state, waited = score, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited >= patience:
                log.info("no better for %d epochs", patience)
                break
    model.load_state_dict(best_state)
    log.info("best %.3f", best)


if __name__ == "__main__":
    main()
