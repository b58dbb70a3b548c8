"""Supervised contrastive embeddings of digit glyphs: functions only."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from toydata import draw_digits


def standardize(images, mean, std):
    return (images.float() / 255 - mean) / std


def load():
    train_images, train_labels = draw_digits(2000, seed=20)
    val_images, val_labels = draw_digits(500, seed=21)
    pixels = train_images.float() / 255
    prepare = partial(standardize, mean=pixels.mean(), std=pixels.std())
    return (prepare(train_images), train_labels), (prepare(val_images), val_labels)


def balanced_batches(images, labels, per_class, steps):
    """As many samples of each digit in each batch, in any order."""
    pools = [torch.nonzero(labels == digit).flatten() for digit in range(10)]
    for _ in range(steps):
        picks = torch.cat([pool[torch.randperm(len(pool))[:per_class]] for pool in pools])
        picks = picks[torch.randperm(len(picks))]
        yield images[picks], labels[picks]


def jitter(x):
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    gain = 0.8 + 0.4 * torch.rand(len(x), 1, 1, 1)
    return torch.roll(x, (dy, dx), (2, 3)) * gain + 0.1 * torch.randn_like(x)


def conv_block(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


def make_encoder(dimensions=32):
    return nn.Sequential(
        *conv_block(1, 16),
        nn.MaxPool2d(2),
        *conv_block(16, 32),
        nn.MaxPool2d(2),
        *conv_block(32, 64),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, dimensions),
    )


def embed(encoder, x):
    return F.normalize(encoder(x), dim=1)


def supervised_contrastive(z, y, temperature=0.1):
    similarity = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool)
    positive = (y[:, None] == y[None, :]) & ~itself
    others = similarity.masked_fill(itself, float("-inf"))
    log_probability = similarity - torch.logsumexp(others, dim=1, keepdim=True)
    return -((log_probability * positive).sum(1) / positive.sum(1)).mean()


def train_epoch(encoder, optimizer, batches):
    encoder.train()
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        z = embed(encoder, torch.cat([jitter(x), jitter(x)]))
        loss = supervised_contrastive(z, y.repeat(2))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def recall_at_1(encoder, images, labels):
    """Share of images whose nearest other image shows the same digit."""
    encoder.eval()
    z = embed(encoder, images)
    similarity = z @ z.T
    similarity.fill_diagonal_(-2.0)
    nearest = similarity.argmax(dim=1)
    return (labels[nearest] == labels).float().mean().item()


def run(epochs=18, steps=60, per_class=3, lr=3e-3, seed=0):
    torch.manual_seed(seed)
    (train_images, train_labels), (val_images, val_labels) = load()
    encoder = make_encoder()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    print(f"untrained: recall@1 {recall_at_1(encoder, val_images, val_labels):.3f}")
    for epoch in range(epochs):
        batches = balanced_batches(train_images, train_labels, per_class, steps)
        loss = train_epoch(encoder, optimizer, batches)
        scheduler.step()
        recall = recall_at_1(encoder, val_images, val_labels)
        print(f"epoch {epoch + 1:2d}  loss {loss:.4f}  recall@1 {recall:.3f}", flush=True)
    return encoder


if __name__ == "__main__":
    run()
