"""Biased matrix factorization (Koren et al., 2009), explicit ratings. Part of the baselines of the repository."""
from argparse import Namespace

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


def get_args():
    return Namespace(
        seed=3,
        n_users=50,
        n_items=40,
        rank=3,
        init_std=0.1,
        lr=2e-2,
        factor_decay=1e-4,
        reg=5e-3,
        batch_size=128,
        val_ratio=0.2,
    )


def simulate_ratings(args):
    """A dense log of (user, item, rating) triples; taste has two dimensions."""
    rng = np.random.RandomState(args.seed)
    taste, genre = rng.randn(args.n_users, 2), rng.randn(args.n_items, 2)
    user_bias, item_bias = 0.4 * rng.randn(args.n_users), 0.6 * rng.randn(args.n_items)
    scores = 3.3 + user_bias[:, None] + item_bias[None, :] + 0.5 * taste @ genre.T
    scores = scores + 0.3 * rng.randn(args.n_users, args.n_items)
    users, items = np.meshgrid(np.arange(args.n_users), np.arange(args.n_items), indexing="ij")
    triples = np.stack([users.ravel(), items.ravel(), scores.clip(1, 5).ravel()], axis=1)
    return triples[rng.permutation(len(triples))]


class RatingDataset(Dataset):
    def __init__(self, triples):
        self.pairs = torch.as_tensor(triples[:, :2].astype(np.int64))
        self.ratings = torch.as_tensor(triples[:, 2].astype(np.float32))

    def __len__(self):
        return len(self.ratings)

    def __getitem__(self, index):
        return self.pairs[index], self.ratings[index]


class BiasedMF(nn.Module):
    def __init__(self, args, global_mean):
        super().__init__()
        self.user_factors = nn.Embedding(args.n_users, args.rank)
        self.item_factors = nn.Embedding(args.n_items, args.rank)
        self.user_bias = nn.Embedding(args.n_users, 1)
        self.item_bias = nn.Embedding(args.n_items, 1)
        self.register_buffer("global_mean", torch.tensor(float(global_mean)))
        for table in (self.user_factors, self.item_factors):
            nn.init.normal_(table.weight, std=args.init_std)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def forward(self, pairs):
        user, item = pairs[:, 0], pairs[:, 1]
        interaction = (self.user_factors(user) * self.item_factors(item)).sum(dim=-1)
        score = self.global_mean + self.user_bias(user).squeeze(-1) + self.item_bias(item).squeeze(-1) + interaction
        return score

    def penalty(self, pairs):
        factors = self.user_factors(pairs[:, 0]), self.item_factors(pairs[:, 1])
        return sum(f.pow(2).sum(dim=-1).mean() for f in factors)


def build_optimizer(model, args):
    groups = [
        {"params": [model.user_factors.weight, model.item_factors.weight], "weight_decay": args.factor_decay},
        {"params": [model.user_bias.weight, model.item_bias.weight], "weight_decay": 0.0},
    ]
    return torch.optim.Adam(groups, lr=args.lr)


def make_train_step(args):
    def train_step(model, batch, optimizer, loss):
        pairs, ratings = batch
        objective = loss(model(pairs), ratings) + args.reg * model.penalty(pairs)
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
        return objective

    return train_step


def setup():
    args = get_args()
    torch.manual_seed(args.seed)
    triples = simulate_ratings(args)
    n_val = int(args.val_ratio * len(triples))
    val_triples, train_triples = triples[:n_val], triples[n_val:]
    train = DataLoader(RatingDataset(train_triples), batch_size=args.batch_size, shuffle=True)
    val = DataLoader(RatingDataset(val_triples), batch_size=args.batch_size)
    model = BiasedMF(args, global_mean=train_triples[:, 2].mean())
    return dict(
        model=model, train=train, val=val, loss=F.mse_loss, optimizer=build_optimizer(model, args), step=make_train_step(args), task="regress"
    )
