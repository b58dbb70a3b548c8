"""Recommendations from who-bought-what: matrix factorization with the BPR loss (Rendle et al., 2009).

Of the twenty items of each user one is kept for validation and one for the test; the model ranks all items that the
user has not got.
"""

import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Config:
    n_users = 300
    n_items = 150
    per_user = 20
    true_dims = 4
    dim = 16
    batch_size = 256
    epochs = 40
    lr = 0.02
    reg = 2e-3
    top_k = 10
    patience = 8
    seed = 42


def make_interactions(cfg):
    rng = np.random.default_rng(cfg.seed)
    taste = rng.normal(size=(cfg.n_users, cfg.true_dims))
    style = rng.normal(size=(cfg.n_items, cfg.true_dims))
    wish = 1.5 * taste @ style.T + rng.gumbel(size=(cfg.n_users, cfg.n_items))
    bought = np.argsort(-wish, axis=1)[:, : cfg.per_user]
    bought = torch.from_numpy(rng.permuted(bought, axis=1))
    return bought[:, 2:], bought[:, 0], bought[:, 1]


class MatrixFactorization(nn.Module):
    def __init__(self, n_users, n_items, dim):
        super().__init__()
        self.user = nn.Embedding(n_users, dim, sparse=True)
        self.item = nn.Embedding(n_items, dim, sparse=True)
        self.bias = nn.Embedding(n_items, 1, sparse=True)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        nn.init.zeros_(self.bias.weight)

    def forward(self, users, items):
        return (self.user(users) * self.item(items)).sum(-1) + self.bias(items).squeeze(-1)

    def penalty(self, users, *items):
        rows = [self.user(users)] + [self.item(i) for i in items]
        return sum(row.pow(2).sum(-1).mean() for row in rows)

    @torch.no_grad()
    def all_scores(self):
        return self.user.weight @ self.item.weight.T + self.bias.weight.T


def draw_unseen(users, seen, shape):
    """Items at random that the users have not got in training."""
    items = torch.randint(0, seen.shape[1], shape)
    users = users.view(-1, *[1] * (items.dim() - 1)).expand_as(items)
    while True:
        taken = seen[users, items]
        if not taken.any():
            return items
        items[taken] = torch.randint(0, seen.shape[1], (int(taken.sum()),))


def draw_negatives(model, users, seen):
    return draw_unseen(users, seen, (len(users),))


def rank_metrics(scores, target, known, k):
    scores = scores.masked_fill(known, -torch.inf)
    wanted = scores.gather(1, target[:, None])
    rank = (scores > wanted).sum(dim=1)
    hit = rank < k
    gain = torch.where(hit, 1 / torch.log2(rank + 2.0), torch.zeros(len(rank)))
    return hit.float().mean().item(), gain.mean().item()


def fit(cfg):
    torch.manual_seed(cfg.seed)
    train_items, valid_item, test_item = make_interactions(cfg)
    seen = torch.zeros(cfg.n_users, cfg.n_items, dtype=torch.bool).scatter_(1, train_items, True)
    seen_or_valid = seen.clone().scatter_(1, valid_item[:, None], True)
    users = torch.arange(cfg.n_users).repeat_interleave(train_items.shape[1])
    positives = train_items.flatten()

    model = MatrixFactorization(cfg.n_users, cfg.n_items, cfg.dim)
    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=cfg.lr)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=2)
    best, best_state, waited = -1.0, None, 0

    for epoch in range(1, cfg.epochs + 1):
        total = 0.0
        for chunk in torch.randperm(len(users)).split(cfg.batch_size):
            user, positive = users[chunk], positives[chunk]
            negative = draw_negatives(model, user, seen)
            difference = model(user, positive) - model(user, negative)
            ranking = -F.logsigmoid(difference).mean()
            loss = ranking + cfg.reg * model.penalty(user, positive, negative)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += ranking.item() * len(chunk)

        hits, ndcg = rank_metrics(model.all_scores(), valid_item, seen, cfg.top_k)
        plateau.step(ndcg)
        print(f"epoch {epoch:2d} | bpr {total / len(users):.4f} | valid hits@10 {hits:.3f} ndcg@10 {ndcg:.3f}")
        if ndcg > best:
            best, best_state, waited = ndcg, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited == cfg.patience:
                break

    model.load_state_dict(best_state)
    hits, ndcg = rank_metrics(model.all_scores(), test_item, seen_or_valid, cfg.top_k)
    return hits, ndcg


if __name__ == "__main__":
    hits, ndcg = fit(Config)
    chance = Config.top_k / (Config.n_items - Config.per_user + 1)
    print(f"test hits@10 {hits:.3f} (chance {chance:.3f}), ndcg@10 {ndcg:.3f}")
