"""Prototypical networks: learns from episodes of seven digits, is judged on three digits that it never met."""
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits

BASE, NOVEL = (0, 1, 3, 5, 6, 8, 9), (2, 4, 7)


class Episodes:
    """A batch sampler: `ways` classes an episode, of each first `shots` supports, then `queries`; class after class."""

    def __init__(self, targets, classes, ways, shots, queries, episodes, seed=None):
        self.pools = [torch.nonzero(targets == c).flatten().tolist() for c in classes]
        self.ways, self.each, self.episodes = ways, shots + queries, episodes
        self.seed, self.random = seed, random.Random(0)

    def __len__(self):
        return self.episodes

    def __iter__(self):
        if self.seed is not None:  # validation: the same episodes each time
            self.random = random.Random(self.seed)
        for _ in range(self.episodes):
            chosen = self.random.sample(self.pools, self.ways)
            yield [index for pool in chosen for index in self.random.sample(pool, self.each)]


class Embedding(nn.Module):
    def __init__(self, width=64):
        super().__init__()

        def block(a, b, stride):
            return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.GroupNorm(8, b), nn.ReLU())

        self.layers = nn.Sequential(block(1, 16, 1), block(16, 32, 2), block(32, 64, 2), nn.Flatten(), nn.Linear(1024, width))

    def forward(self, x):
        return self.layers(x)


def episode_logits(embedding, images, ways, shots):
    z = embedding(images).view(ways, -1, embedding.layers[-1].out_features)
    prototypes = z[:, :shots].mean(1)
    queries = z[:, shots:].reshape(-1, z.shape[-1])
    # targets are places in the episode, not digits
    targets = torch.arange(ways).repeat_interleave(z.shape[1] - shots)
    return -torch.cdist(queries, prototypes).pow(2) / z.shape[-1] ** 0.5, targets


def to_float(image):
    return (image.float() / 255 - 0.2) / 0.35


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    seen, unseen = Digits(train=True, count=1600, transform=to_float), Digits(train=False, count=400, transform=to_float)
    train = DataLoader(seen, batch_sampler=Episodes(seen.targets, BASE, ways=5, shots=5, queries=6, episodes=80))
    valid = DataLoader(unseen, batch_sampler=Episodes(unseen.targets, NOVEL, ways=3, shots=5, queries=10, episodes=40, seed=7))
    embedding = Embedding()
    optimizer = torch.optim.Adam(embedding.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)

    for epoch in range(12):
        embedding.train()
        losses, right, total = 0.0, 0, 0
        for images, _ in train:
            logits, targets = episode_logits(embedding, images, 5, 5)
            loss = F.cross_entropy(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.item()
            right += (logits.argmax(1) == targets).sum().item()
            total += len(targets)
        scheduler.step()

        embedding.eval()
        hit = asked = 0
        with torch.no_grad():
            for images, _ in valid:
                logits, targets = episode_logits(embedding, images, 3, 5)
                hit += (logits.argmax(1) == targets).sum().item()
                asked += len(targets)
        print(f"epoch {epoch}: loss {losses / len(train):.4f}, base digits {right / total:.3f}, new digits {hit / asked:.3f}")


if __name__ == "__main__":
    main()
