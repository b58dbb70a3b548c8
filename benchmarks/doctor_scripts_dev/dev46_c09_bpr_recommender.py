"""Bayesian personalized ranking with sparse embeddings; leave-one-out evaluation."""
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

N_USERS, N_ITEMS, PER_USER = 250, 150, 18


def make_interactions(seed):
    """Who took what: users have tastes in four directions, some items are popular with all."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=(N_USERS, 4))
    kind = rng.normal(size=(N_ITEMS, 4))
    popularity = 0.7 * rng.normal(size=N_ITEMS)
    score = 1.6 * taste @ kind.T + popularity + rng.gumbel(size=(N_USERS, N_ITEMS))
    chosen = np.argsort(-score, axis=1)[:, :PER_USER]
    return rng.permuted(chosen, axis=1)


class Interactions:
    def __init__(self, chosen, seed):
        self.rng = np.random.default_rng(seed)
        self.train, self.valid, self.test = chosen[:, :-2], chosen[:, -2], chosen[:, -1]
        self.known = np.zeros((N_USERS, N_ITEMS), dtype=bool)
        np.put_along_axis(self.known, self.train, True, axis=1)
        self.users = np.repeat(np.arange(N_USERS), self.train.shape[1])
        self.items = self.train.reshape(-1)

    def negatives(self, users):
        items = self.rng.integers(N_ITEMS, size=len(users))
        bad = self.known[users, items]
        while bad.any():
            items[bad] = self.rng.integers(N_ITEMS, size=bad.sum())
            bad = self.known[users, items]
        return items

    def epoch(self, batch_size):
        order = self.rng.permutation(len(self.users))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            users = self.users[rows]
            triple = users, self.items[rows], self.negatives(users)
            yield tuple(torch.from_numpy(part) for part in triple)


class MatrixFactorization(nn.Module):
    def __init__(self, dim=12):
        super().__init__()
        self.user = nn.Embedding(N_USERS, dim, sparse=True)
        self.item = nn.Embedding(N_ITEMS, dim, sparse=True)
        self.bias = nn.Parameter(torch.zeros(N_ITEMS))
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)

    def forward(self, users, items):
        return (self.user(users) * self.item(items)).sum(-1) + self.bias[items]

    def penalty(self, users, *items):
        norms = self.user(users).pow(2).sum(-1).mean()
        return norms + sum(self.item(i).pow(2).sum(-1).mean() for i in items)

    @torch.no_grad()
    def all_scores(self):
        return self.user.weight @ self.item.weight.t() + self.bias


def hit_and_ndcg(scores, wanted, hidden, k=10):
    """Rank of one held-out item of each user among the items that are not hidden."""
    scores = scores.masked_fill(hidden, float("-inf"))
    own = scores.gather(1, wanted[:, None])
    rank = (scores > own).sum(1)
    hit = rank < k
    gain = torch.where(hit, 1 / torch.log2(rank.float() + 2), torch.zeros(()))
    return hit.float().mean().item(), gain.mean().item()


def main(epochs=20, batch_size=128, seed=5):
    torch.manual_seed(seed)
    data = Interactions(make_interactions(seed), seed + 1)
    model = MatrixFactorization()
    optimizers = [
        torch.optim.SparseAdam([model.user.weight, model.item.weight], lr=0.015),
        torch.optim.Adam([model.bias], lr=0.015),
    ]
    known = torch.from_numpy(data.known)
    valid, test = torch.from_numpy(data.valid), torch.from_numpy(data.test)

    best, best_state = 0.0, None
    for epoch in range(1, epochs + 1):
        total = 0.0
        for users, positive, negative in data.epoch(batch_size):
            pos_score, neg_score = model(users, positive), model(users, negative)
            ranking = -F.logsigmoid(pos_score - neg_score).mean()
            loss = ranking + 0.01 * model.penalty(users, positive, negative)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            total += ranking.item() * len(users)
        hit, ndcg = hit_and_ndcg(model.all_scores(), valid, known)
        print(f"{epoch:2d}  bpr {total / len(data.users):.4f}  valid hit@10 {hit:.3f}  ndcg@10 {ndcg:.3f}")
        if ndcg > best:
            best, best_state = ndcg, {key: value.clone() for key, value in model.state_dict().items()}

    model.load_state_dict(best_state)
    hidden = known.clone()
    hidden[torch.arange(N_USERS), valid] = True
    hit, ndcg = hit_and_ndcg(model.all_scores(), test, hidden)
    print(f"test hit@10 {hit:.3f}  ndcg@10 {ndcg:.3f}  (chance {10 / (N_ITEMS - PER_USER + 1):.3f})")


if __name__ == "__main__":
    main()
