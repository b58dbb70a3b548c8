"""Bayesian personalized ranking with matrix factorization on simulated purchases (leave-two-out)."""

import copy
import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

logging.basicConfig(level=logging.INFO, format="%(message)s")
log = logging.getLogger("bpr")


@dataclass(frozen=True)
class ExperimentConfig:
    n_users: int = 200
    n_items: int = 120
    n_interactions: int = 20
    true_dim: int = 4
    dim: int = 16
    lr: float = 1e-2
    weight_decay: float = 1e-5
    batch_size: int = 128
    epochs: int = 15
    n_candidates: int = 50
    top_k: int = 10
    seed: int = 7


def simulate(cfg: ExperimentConfig) -> list[np.ndarray]:
    """What each user bought, in random order."""
    rng = np.random.default_rng(cfg.seed)
    users = rng.normal(size=(cfg.n_users, cfg.true_dim))
    items = rng.normal(size=(cfg.n_items, cfg.true_dim))
    utility = 1.5 * users @ items.T + rng.gumbel(size=(cfg.n_users, cfg.n_items))
    chosen = np.argsort(-utility, axis=1)[:, : cfg.n_interactions]
    return [rng.permutation(row) for row in chosen]


class Interactions:
    def __init__(self, cfg: ExperimentConfig):
        self.bought = simulate(cfg)
        self.sets = [set(row.tolist()) for row in self.bought]
        rng = np.random.default_rng(cfg.seed + 1)
        self.train, self.val, self.test = [], [], []
        for user, row in enumerate(self.bought):
            self.test.append(int(row[0]))
            self.val.append(int(row[1]))
            self.train.extend((user, int(item)) for item in row[2:])
        rest = [np.setdiff1d(np.arange(cfg.n_items), row) for row in self.bought]
        self.candidates = torch.tensor(np.stack([rng.choice(r, cfg.n_candidates, replace=False) for r in rest]))


class TripletDataset(Dataset):
    """A user, an item that they bought, and one that they did not."""

    def __init__(self, data: Interactions, n_items: int, seed: int):
        self.data, self.n_items = data, n_items
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return len(self.data.train)

    def __getitem__(self, index):
        user, pos = self.data.train[index]
        neg = int(self.rng.integers(self.n_items))
        while neg in self.data.sets[user]:
            neg = int(self.rng.integers(self.n_items))
        return user, pos, neg


class MatrixFactorization(nn.Module):
    def __init__(self, cfg: ExperimentConfig):
        super().__init__()
        self.user = nn.Embedding(cfg.n_users, cfg.dim)
        self.item = nn.Embedding(cfg.n_items, cfg.dim)
        self.item_bias = nn.Embedding(cfg.n_items, 1)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, users, items):
        return (self.user(users) * self.item(items)).sum(-1) + self.item_bias(items).squeeze(-1)


def bpr_loss(pos_scores, neg_scores):
    return -F.logsigmoid(pos_scores - neg_scores).mean()


@torch.no_grad()
def hit_rate(model, held_out, candidates, k):
    """Share of users whose held-out item is among the best k of it and the candidates."""
    model.eval()
    users = torch.arange(len(held_out))
    target = model(users, torch.tensor(held_out))
    others = model(users.unsqueeze(1), candidates)
    rank = (others >= target.unsqueeze(1)).sum(1)
    return (rank < k).float().mean().item()


def train_one_epoch(model, loader, optimizer):
    model.train()
    total, seen = 0.0, 0
    for users, positives, negatives in loader:
        optimizer.zero_grad()
        loss = bpr_loss(model(users, positives), model(users, negatives))
        loss.backward()
        optimizer.step()
        total += loss.item() * len(users)
        seen += len(users)
    return total / seen


def main(cfg: ExperimentConfig):
    torch.manual_seed(cfg.seed)
    data = Interactions(cfg)
    dataset = TripletDataset(data, cfg.n_items, cfg.seed + 2)
    loader = DataLoader(dataset, batch_size=cfg.batch_size, shuffle=True)
    model = MatrixFactorization(cfg)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)

    best_hr, best_state = -1.0, None
    for epoch in range(1, cfg.epochs + 1):
        train_loss = train_one_epoch(model, loader, optimizer)
        val_hr = hit_rate(model, data.val, data.candidates, cfg.top_k)
        log.info("epoch %2d  loss %.4f  val HR@%d %.3f", epoch, train_loss, cfg.top_k, val_hr)
        if val_hr > best_hr:
            best_hr, best_state = val_hr, copy.deepcopy(model.state_dict())

    model.load_state_dict(best_state)
    test_hr = hit_rate(model, data.test, data.candidates, cfg.top_k)
    log.info("best val HR %.3f, test HR %.3f (chance %.3f)", best_hr, test_hr, cfg.top_k / (cfg.n_candidates + 1))


if __name__ == "__main__":
    main(ExperimentConfig())
