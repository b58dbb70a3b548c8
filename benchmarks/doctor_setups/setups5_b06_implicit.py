"""Matrix factorization for implicit feedback behind a scikit-learn-like estimator."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_interactions(n_users=60, n_items=50, n_groups=4, seed=0):
    """Every user likes one or two genres; returns all pairs (user, item), and whether the user took the item."""
    rng = np.random.default_rng(seed)
    taste = np.stack([rng.permutation([2.0, 1.0, -2.0, -2.5])[:n_groups] for _ in range(n_users)])
    genre = rng.integers(0, n_groups, n_items)
    logit = taste[:, genre] + rng.normal(0, 0.2, (n_users, n_items))
    taken = rng.random((n_users, n_items)) < 1 / (1 + np.exp(-2 * logit))
    users, items = np.meshgrid(np.arange(n_users), np.arange(n_items), indexing="ij")
    pairs, taken = np.stack([users.ravel(), items.ravel()], 1), taken.ravel()
    keep = rng.permutation(len(pairs))[:2000]
    return pairs[keep], taken[keep]


class _Factors(nn.Module):
    def __init__(self, n_users, n_items, n_factors, init_std):
        super().__init__()
        self.user_factors = nn.Embedding(n_users, n_factors)
        self.item_factors = nn.Embedding(n_items, n_factors)
        self.user_bias = nn.Embedding(n_users, 1)
        self.item_bias = nn.Embedding(n_items, 1)
        for table in (self.user_factors, self.item_factors):
            nn.init.normal_(table.weight, std=init_std)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def forward(self, pairs):
        user, item = pairs[:, 0], pairs[:, 1]
        score = (self.user_factors(user) * self.item_factors(item)).sum(1)
        return score + self.user_bias(user).squeeze(1) + self.item_bias(item).squeeze(1)


def log_loss(scores, taken):
    """Negative log likelihood of a Bernoulli variable, on logits."""
    log_likelihood = taken * F.logsigmoid(scores) + (1 - taken) * F.logsigmoid(-scores)
    return -log_likelihood.mean()


class ImplicitMF(BaseEstimator):
    """
    Parameters
    ----------
    n_factors : int, size of the latent vectors
    learning_rate : float, step size of Adam
    batch_size : int
    init_std : float, standard deviation of the factors at the start
    alpha : float, L2 penalty, on the vectors of a batch
    random_state : int
    """

    def __init__(self, n_factors=6, learning_rate=0.02, batch_size=64, init_std=0.3, alpha=1e-2, random_state=0):
        self.n_factors = n_factors
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.init_std = init_std
        self.alpha = alpha
        self.random_state = random_state

    def _loader(self, pairs, taken, training):
        positive, negative = np.flatnonzero(taken), np.flatnonzero(~taken)
        rows = np.concatenate([positive, negative])
        dataset = TensorDataset(torch.as_tensor(pairs[rows]).long(), torch.as_tensor(taken[rows]).float())
        return DataLoader(dataset, batch_size=self.batch_size, shuffle=training, drop_last=training)

    def _initialize(self, pairs):
        torch.manual_seed(self.random_state)
        n_users, n_items = (pairs.max(axis=0) + 1).tolist()
        self.module_ = _Factors(n_users, n_items, self.n_factors, self.init_std)
        self.optimizer_ = torch.optim.Adam(self.module_.parameters(), lr=self.learning_rate)
        return self

    def _partial_fit_batch(self, module, batch, optimizer, loss):
        pairs, taken = batch
        module.train()
        optimizer.zero_grad()
        data_term = loss(module(pairs), taken)
        u, v = module.user_factors(pairs[:, 0]), module.item_factors(pairs[:, 1])
        penalty = u.square().sum(1).mean() + v.square().sum(1).mean()
        objective = data_term + self.alpha * penalty
        objective.backward()
        optimizer.step()
        return objective


def setup():
    torch.manual_seed(0)
    pairs, taken = make_interactions()
    train_pairs, val_pairs, train_taken, val_taken = train_test_split(pairs, taken, test_size=0.2, random_state=0)
    estimator = ImplicitMF()._initialize(pairs)
    return dict(
        model=estimator.module_,
        train=estimator._loader(train_pairs, train_taken, training=True),
        val=estimator._loader(val_pairs, val_taken, training=False),
        loss=log_loss,
        optimizer=estimator.optimizer_,
        step=estimator._partial_fit_batch,
        task="classify",
    )
