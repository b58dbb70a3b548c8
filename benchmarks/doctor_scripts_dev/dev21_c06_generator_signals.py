"""Kinds of waves by a 1-D network; batches come from generators, training counts iterations and not epochs."""

import numpy as np
import torch
import torch.nn as nn

from toydata import waves

ITERATIONS = 2000
EVAL_EVERY = 200
BATCH = 64


def endless_batches(signals, labels, batch_size, rng):
    """Shuffles again after each pass; a last batch that is not full is left for the next pass."""
    while True:
        order = rng.permutation(len(signals))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            chosen = torch.from_numpy(order[start : start + batch_size])
            yield signals[chosen], labels[chosen]


def jitter(batches, rng):
    """Amplitude and sign at random: all of the kinds stay what they are."""
    for signals, labels in batches:
        scale = rng.uniform(0.8, 1.2, size=(len(signals), 1, 1)) * rng.choice([-1.0, 1.0], size=(len(signals), 1, 1))
        yield signals * torch.from_numpy(scale).float(), labels


def once(signals, labels, batch_size):
    for start in range(0, len(signals), batch_size):
        yield signals[start : start + batch_size], labels[start : start + batch_size]


class Residual(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.net = nn.Sequential(
            nn.GroupNorm(4, width),
            nn.GELU(),
            nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation),
            nn.GroupNorm(4, width),
            nn.GELU(),
            nn.Conv1d(width, width, 1),
        )

    def forward(self, x):
        return x + self.net(x)


class WaveNet(nn.Module):
    def __init__(self, width=32, classes=4):
        super().__init__()
        self.stem = nn.Conv1d(1, width, 7, stride=2, padding=3)
        self.blocks = nn.ModuleList([Residual(width, dilation) for dilation in (1, 2, 4)])
        self.out = nn.Linear(2 * width, classes)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.out(torch.cat([x.mean(-1), x.amax(-1)], dim=1))


def evaluate(net, signals, labels):
    net.eval()
    right = 0
    with torch.no_grad():
        for x, y in once(signals, labels, 200):
            right += int((net(x).argmax(1) == y).sum())
    net.train()
    return right / len(labels)


def main():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    signals, labels = waves(3000, seed=0)
    val_signals, val_labels = waves(600, seed=1)
    scale = signals.std()
    signals, val_signals = signals / scale, val_signals / scale

    net = WaveNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=ITERATIONS)
    loss_fn = nn.CrossEntropyLoss()

    recent = []
    stream = jitter(endless_batches(signals, labels, BATCH, rng), rng)
    net.train()
    for iteration, (x, y) in enumerate(stream, start=1):
        optimizer.zero_grad()
        loss = loss_fn(net(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        recent.append(loss.item())
        if iteration % EVAL_EVERY == 0:
            accuracy = evaluate(net, val_signals, val_labels)
            print(f"iteration {iteration}: loss {np.mean(recent):.4f}, validation accuracy {accuracy:.4f}")
            recent.clear()
        if iteration == ITERATIONS:
            break


if __name__ == "__main__":
    main()
