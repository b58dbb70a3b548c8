"""Bayesian personalized ranking (Rendle et al., 2009) with matrix factorization on synthetic clicks."""

import copy
import logging
import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
log = logging.getLogger("bpr")


@dataclass(frozen=True)
class Config:
    n_users: int = 200
    n_items: int = 120
    clicks_per_user: int = 20
    dim: int = 16
    lr: float = 0.01
    reg: float = 1e-4
    batch_size: int = 256
    epochs: int = 30
    share_train: float = 0.7
    share_val: float = 0.15
    seed: int = 11


def simulate_clicks(cfg: Config) -> torch.Tensor:
    """Each user clicks on the items that fit the user's taste best, as far as chance allows: pairs (user, item)."""
    rng = np.random.default_rng(cfg.seed)
    taste, character = rng.normal(size=(cfg.n_users, 4)), rng.normal(size=(cfg.n_items, 4))
    utility = 1.5 * taste @ character.T + rng.gumbel(size=(cfg.n_users, cfg.n_items))
    clicked = np.argsort(-utility, axis=1)[:, : cfg.clicks_per_user]
    users = np.repeat(np.arange(cfg.n_users), cfg.clicks_per_user)
    return torch.from_numpy(np.stack([users, clicked.reshape(-1)], axis=1))


def to_matrix(pairs: torch.Tensor, cfg: Config) -> torch.Tensor:
    matrix = torch.zeros(cfg.n_users, cfg.n_items, dtype=torch.bool)
    matrix[pairs[:, 0], pairs[:, 1]] = True
    return matrix


class MatrixFactorization(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.user = nn.Embedding(cfg.n_users, cfg.dim)
        self.item = nn.Embedding(cfg.n_items, cfg.dim)
        self.popularity = nn.Embedding(cfg.n_items, 1)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        nn.init.zeros_(self.popularity.weight)

    def forward(self, users, items):
        return (self.user(users) * self.item(items)).sum(-1) + self.popularity(items).squeeze(-1)

    def score_all(self, users):
        return self.user(users) @ self.item.weight.T + self.popularity.weight.T


def bpr_loss(pos, neg):
    return -F.logsigmoid(pos - neg).mean()


def sample_negatives(users: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """For each user an item that the user did not click on in training."""
    negatives = torch.randint(seen.shape[1], users.shape)
    clash = seen[users, negatives]
    while clash.any():
        negatives[clash] = torch.randint(seen.shape[1], (int(clash.sum()),))
        clash = seen[users, negatives]
    return negatives


@torch.no_grad()
def auc(scores: torch.Tensor, pairs: torch.Tensor, clicked: torch.Tensor) -> float:
    """How often a held-out click is scored above an item that its user never clicked on."""
    users, items = pairs[:, 0], pairs[:, 1]
    rows = scores[users]
    own = rows.gather(1, items[:, None])
    others = ~clicked[users]
    return (((own > rows) & others).sum(1) / others.sum(1)).mean().item()


def train_epoch(model, loader, optimizer, seen) -> float:
    model.train()
    total, count = 0.0, 0
    for users, positives in loader:
        negatives = sample_negatives(users, seen)
        loss = bpr_loss(model(users, positives), model(users, negatives))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, count = total + loss.item() * len(users), count + len(users)
    return total / count


if __name__ == "__main__":
    cfg = Config()
    log.info("config %s", asdict(cfg))
    torch.manual_seed(cfg.seed)

    clicks = simulate_clicks(cfg)
    order = torch.randperm(len(clicks))
    n_train, n_val = int(cfg.share_train * len(clicks)), int(cfg.share_val * len(clicks))
    idx_train = order[:n_train]
    idx_val = order[n_train : n_train + n_val]
    idx_test = order[n_train + n_val :]
    clicked, seen = to_matrix(clicks, cfg), to_matrix(clicks[idx_train], cfg)
    train_pairs = clicks[idx_train]
    loader = DataLoader(
        TensorDataset(train_pairs[:, 0], train_pairs[:, 1]), batch_size=cfg.batch_size, shuffle=True
    )

    model = MatrixFactorization(cfg)
    optimizer = torch.optim.Adam(
        [
            {"params": model.user.parameters(), "weight_decay": cfg.reg},
            {"params": model.item.parameters(), "weight_decay": cfg.reg},
            {"params": model.popularity.parameters(), "weight_decay": 0.0},
        ],
        lr=cfg.lr,
    )

    everyone = torch.arange(cfg.n_users)
    best_auc, best_state, best_epoch = -math.inf, None, -1
    for epoch in range(cfg.epochs):
        train_loss = train_epoch(model, loader, optimizer, seen)
        model.eval()
        val_auc = auc(model.score_all(everyone).detach(), clicks[idx_val], clicked)
        if val_auc > best_auc:
            best_auc, best_state, best_epoch = val_auc, copy.deepcopy(model.state_dict()), epoch
        log.info("epoch %02d loss %.4f val auc %.4f", epoch, train_loss, val_auc)

    model.load_state_dict(best_state)
    model.eval()
    popular = seen.sum(0).float().expand(cfg.n_users, -1)
    log.info("best epoch %d, val auc %.4f", best_epoch, best_auc)
    log.info("test auc %.4f", auc(model.score_all(everyone).detach(), clicks[idx_test], clicked))
    log.info("test auc of popularity %.4f", auc(popular, clicks[idx_test], clicked))
