"""Prototypical networks on an alphabet of made-up glyphs: new glyphs from five examples each."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def alphabet(classes=60, per_class=20, size=14, seed=0):
    """(classes, per_class, 1, size, size): glyphs of 5 x 5 cells, moved, of varying strength, with noise."""
    rng = np.random.default_rng(seed)
    images = np.zeros((classes, per_class, 1, size, size), dtype=np.float32)
    for c in range(classes):
        glyph = np.kron(rng.random((5, 5)) < 0.45, np.ones((2, 2)))
        for k in range(per_class):
            top, left = rng.integers(1, size - 10, size=2)
            images[c, k, 0, top : top + 10, left : left + 10] = glyph * rng.uniform(0.7, 1.0)
    images += 0.25 * rng.standard_normal(images.shape).astype(np.float32)
    return torch.from_numpy((images - 0.2) / 0.4)


class EpisodeSampler:
    """Draws tasks: n classes, with k images to learn from and q to recognize."""

    def __init__(self, images, n_way, k_shot, q_query, seed):
        self.images = images
        self.n, self.k, self.q = n_way, k_shot, q_query
        self.rng = np.random.default_rng(seed)

    def task(self):
        support, query = [], []
        for c in self.rng.choice(len(self.images), self.n, replace=False):
            chosen = self.rng.permutation(self.images.shape[1])[: self.k + self.q]
            shots = self.images[int(c)][torch.from_numpy(chosen)]
            support.append(shots[: self.k])
            query.append(shots[self.k :])
        labels = torch.arange(self.n).repeat_interleave(self.q)
        return torch.cat(support), torch.cat(query), labels


def conv_block(in_channels, out_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class ProtoNet(nn.Module):
    def __init__(self, x_dim=1, hid_dim=24, z_dim=32):
        super().__init__()
        self.encoder = nn.Sequential(conv_block(x_dim, hid_dim), conv_block(hid_dim, z_dim), nn.Flatten())

    def forward(self, support, query, n_way):
        z = self.encoder(torch.cat([support, query]))
        z_support, z_query = z[: len(support)], z[len(support) :]
        prototypes = z_support.reshape(n_way, -1, z.shape[1]).mean(1)
        distances = ((z_query[:, None] - prototypes[None]) ** 2).mean(2)
        return -distances * 4


@torch.no_grad()
def evaluate(model, images, args, tasks=30):
    """New classes; the same tasks each time."""
    model.eval()
    sampler = EpisodeSampler(images, args.way, args.shot, args.query, seed=99)
    correct = []
    for _ in range(tasks):
        support, query, labels = sampler.task()
        pred = model(support, query, args.way).argmax(1)
        correct.append((pred == labels).float().mean().item())
    spread = 1.96 * np.std(correct) / np.sqrt(tasks)
    return np.mean(correct), spread


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shot", type=int, default=5)
    parser.add_argument("--query", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=4, help="tasks per step")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--lr", type=float, default=0.03)
    args = parser.parse_args()

    torch.manual_seed(0)
    images = alphabet()
    train_images, val_images = images[:45], images[45:]
    sampler = EpisodeSampler(train_images, args.way, args.shot, args.query, seed=1)
    model = ProtoNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)

    accuracy, spread = evaluate(model, val_images, args)
    print(f"untrained: {100 * accuracy:.1f} +- {100 * spread:.1f} %")
    for epoch in range(args.epochs):
        model.train()
        losses, hits = [], []
        for step in range(args.steps):
            optimizer.zero_grad()
            for _ in range(args.tasks):
                support, query, labels = sampler.task()
                logits = model(support, query, args.way)
                loss = F.cross_entropy(logits, labels)
                (loss / args.tasks).backward()
                losses.append(loss.item())
                hits.append((logits.argmax(1) == labels).float().mean().item())
            optimizer.step()
        scheduler.step()
        accuracy, spread = evaluate(model, val_images, args)
        print(f"epoch {epoch}: loss {np.mean(losses):.4f}, train {100 * np.mean(hits):.1f} %, "
              f"new glyphs {100 * accuracy:.1f} +- {100 * spread:.1f} %")


if __name__ == "__main__":
    main()
