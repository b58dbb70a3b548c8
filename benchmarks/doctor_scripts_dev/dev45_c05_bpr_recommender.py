"""Bayesian personalized ranking of items by factors, with sparse gradients for the tables."""
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Settings:
    users: int = 300
    items: int = 120
    liked: int = 24
    held_out: int = 4
    rank: int = 12
    epochs: int = 25
    batch: int = 250
    seed: int = 5


def make_likes(s: Settings):
    """Each user likes the items of most affinity; some of these are kept for the test."""
    rng = np.random.default_rng(s.seed)
    affinity = rng.normal(size=(s.users, 3)) @ rng.normal(size=(3, s.items))
    affinity += 0.5 * rng.normal(size=s.items) + 0.3 * rng.normal(size=affinity.shape)
    liked = np.argsort(-affinity, axis=1)[:, : s.liked]
    liked = rng.permuted(liked, axis=1)
    train = np.zeros((s.users, s.items), dtype=bool)
    test = np.zeros_like(train)
    rows = np.arange(s.users)[:, None]
    test[rows, liked[:, : s.held_out]] = True
    train[rows, liked[:, s.held_out :]] = True
    return torch.from_numpy(train), torch.from_numpy(test)


class Factors(nn.Module):
    def __init__(self, s: Settings):
        super().__init__()
        self.user = nn.Embedding(s.users, s.rank, sparse=True)
        self.item = nn.Embedding(s.items, s.rank, sparse=True)
        self.bias = nn.Parameter(torch.zeros(s.items))
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)

    def forward(self, users, items):
        return (self.user(users) * self.item(items)).sum(-1) + self.bias[items]

    def table(self):
        return self.user.weight @ self.item.weight.T + self.bias


def draw_negatives(users, known, count):
    items = torch.randint(0, count, users.shape)
    while True:
        bad = known[users, items]
        if not bad.any():
            return items
        items[bad] = torch.randint(0, count, (int(bad.sum()),))


@torch.no_grad()
def measure(model, train, test, k=20):
    scores = model.table().masked_fill(train, float("-inf"))
    top = scores.topk(k, dim=1).indices
    recall = test.gather(1, top).float().sum(1) / test.sum(1)
    auc = []
    for user in range(len(test)):
        wanted = scores[user][test[user]]
        others = scores[user][~test[user] & ~train[user]]
        auc.append((wanted[:, None] > others[None, :]).float().mean())
    return recall.mean().item(), torch.stack(auc).mean().item()


def run(s: Settings):
    torch.manual_seed(s.seed)
    train, test = make_likes(s)
    pairs = train.nonzero()
    model = Factors(s)
    tables = torch.optim.SparseAdam([model.user.weight, model.item.weight], lr=0.02)
    biases = torch.optim.Adam([model.bias], lr=0.01)

    for epoch in range(s.epochs):
        total = 0.0
        for rows in torch.randperm(len(pairs)).split(s.batch):
            users, liked = pairs[rows].unbind(1)
            others = draw_negatives(users, train, s.items)
            better, worse = model(users, liked), model(users, others)
            loss = -F.logsigmoid(better - worse).mean()
            penalty = model.user(users).pow(2).mean() + model.item(liked).pow(2).mean()
            tables.zero_grad()
            biases.zero_grad()
            (loss + 0.02 * penalty).backward()
            tables.step()
            biases.step()
            total += loss.item() * len(rows)
        if epoch % 4 == 0 or epoch == s.epochs - 1:
            recall, auc = measure(model, train, test)
            print(f"epoch {epoch:2d}  loss {total / len(pairs):.4f}  recall@20 {recall:.3f}  AUC {auc:.3f}")


if __name__ == "__main__":
    run(Settings())
