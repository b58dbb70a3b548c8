"""Bayesian personalized ranking (Rendle et al., 2009) on implicit feedback, leave-two-out per user."""
import copy

import numpy as np
import torch
from torch import nn
from torch.nn.functional import logsigmoid

SEED = 2024
N_USERS, N_ITEMS, N_GENRES = 400, 300, 15
DIM, LR, REG = 24, 0.01, 2e-3
EPOCHS, BATCH, PATIENCE, TOP = 40, 512, 6, 10


def simulate(rng):
    """Each user likes three genres, popular items more; one click in ten is by chance."""
    genre = rng.integers(N_GENRES, size=N_ITEMS)
    popularity = rng.gamma(2.0, 1.0, N_ITEMS)
    clicks = []
    for _ in range(N_USERS):
        liked = rng.choice(N_GENRES, 3, replace=False)
        p = popularity * np.isin(genre, liked)
        p = 0.9 * p / p.sum() + 0.1 / N_ITEMS
        clicks.append(rng.choice(N_ITEMS, size=rng.integers(16, 26), replace=False, p=p))
    return clicks


def leave_two_out(clicks, rng):
    train, val, test = [], [], []
    for items in clicks:
        items = rng.permutation(items)
        val.append(items[0])
        test.append(items[1])
        train.append(items[2:])
    return train, np.array(val), np.array(test)


class MF(nn.Module):
    def __init__(self, users, items, dim):
        super().__init__()
        self.user = nn.Embedding(users, dim)
        self.item = nn.Embedding(items, dim)
        self.item_bias = nn.Embedding(items, 1)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, u, i):
        return (self.user(u) * self.item(i)).sum(-1) + self.item_bias(i).squeeze(-1)

    def all_scores(self, u):
        return self.user(u) @ self.item.weight.T + self.item_bias.weight.squeeze(-1)

    def penalty(self, u, i, j):
        return (self.user(u).pow(2).sum(-1) + self.item(i).pow(2).sum(-1) + self.item(j).pow(2).sum(-1)).mean()


def negatives(users, seen, rng):
    """One item per row which the user has not clicked in training; draws again until that holds."""
    j = rng.integers(N_ITEMS, size=len(users))
    clash = seen[users, j]
    while clash.any():
        j[clash] = rng.integers(N_ITEMS, size=clash.sum())
        clash = seen[users, j]
    return j


def epoch_batches(users, items, seen, rng):
    order = rng.permutation(len(users))
    for start in range(0, len(order), BATCH):
        pick = order[start : start + BATCH]
        u, i = users[pick], items[pick]
        yield tuple(torch.from_numpy(a) for a in (u, i, negatives(u, seen, rng)))


@torch.no_grad()
def ranking(scores, hidden, target):
    """Hit rate and NDCG at TOP of one held-out item per user among all that the user may still be shown."""
    scores = scores.masked_fill(torch.from_numpy(hidden), -torch.inf)
    target = torch.from_numpy(target)
    mine = scores.gather(1, target[:, None])
    rank = (scores > mine).sum(1)
    hit = rank < TOP
    ndcg = torch.where(hit, 1 / torch.log2(rank + 2.0), torch.zeros(()))
    return hit.float().mean().item(), ndcg.mean().item()


rng = np.random.default_rng(SEED)
torch.manual_seed(SEED)
train, val, test = leave_two_out(simulate(rng), rng)
users = np.concatenate([np.full(len(items), u) for u, items in enumerate(train)])
items = np.concatenate(train)
seen = np.zeros((N_USERS, N_ITEMS), dtype=bool)
seen[users, items] = True
seen_or_val = seen.copy()
seen_or_val[np.arange(N_USERS), val] = True

model = MF(N_USERS, N_ITEMS, DIM)
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
everyone = torch.arange(N_USERS)
best, best_state, stale = -1.0, None, 0

for epoch in range(1, EPOCHS + 1):
    model.train()
    total = 0.0
    for u, i, j in epoch_batches(users, items, seen, rng):
        loss = -logsigmoid(model(u, i) - model(u, j)).mean() + REG * model.penalty(u, i, j)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(u)
    model.eval()
    hit, ndcg = ranking(model.all_scores(everyone), seen, val)
    if epoch % 4 == 0:
        print(f"epoch {epoch:2d} | bpr {total / len(users):.4f} | val HR@{TOP} {hit:.3f} NDCG@{TOP} {ndcg:.3f}")
    if ndcg > best:
        best, best_state, stale = ndcg, copy.deepcopy(model.state_dict()), 0
    else:
        stale += 1
        if stale == PATIENCE:
            break

model.load_state_dict(best_state)
hit, ndcg = ranking(model.all_scores(everyone), seen_or_val, test)
counts = torch.from_numpy(seen.sum(0)).float().expand(N_USERS, -1)
pop_hit, pop_ndcg = ranking(counts, seen_or_val, test)
print(f"test: HR@{TOP} {hit:.3f}, NDCG@{TOP} {ndcg:.3f}; by popularity alone: {pop_hit:.3f}, {pop_ndcg:.3f}")
