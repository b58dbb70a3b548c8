"""Recommendations from clicks: matrix factorization with pairwise ranking (BPR), sparse embeddings, drawn negatives."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

USERS, ITEMS, GENRES, CLICKS = 800, 240, 6, 24


def make_clicks(seed=0):
    """Each user likes two genres; of each genre some items are more popular. The last two clicks are held out."""
    rng = np.random.default_rng(seed)
    genre = rng.integers(0, GENRES, ITEMS)
    popularity = rng.gamma(2.0, 0.5, ITEMS) + 0.2
    train, held_out = [], []
    for user in range(USERS):
        taste = np.full(GENRES, 0.03)
        first, second = rng.choice(GENRES, 2, replace=False)
        taste[first], taste[second] = 1.0, 0.6
        weights = taste[genre] * popularity
        clicked = rng.choice(ITEMS, CLICKS, replace=False, p=weights / weights.sum())
        clicked = rng.permutation(clicked)
        train += [(user, int(item)) for item in clicked[:-2]]
        held_out += [(user, int(item)) for item in clicked[-2:]]
    return np.array(train), np.array(held_out)


class Triples(Dataset):
    """(user, clicked item, item that was not clicked): the third is drawn anew each time."""

    def __init__(self, clicks, seed):
        self.clicks = clicks
        self.seen = np.zeros((USERS, ITEMS), dtype=bool)
        self.seen[clicks[:, 0], clicks[:, 1]] = True
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return len(self.clicks)

    def __getitems__(self, indices):
        users, items = self.clicks[indices].T
        negatives = self.rng.integers(0, ITEMS, len(indices))
        while (known := self.seen[users, negatives]).any():
            negatives[known] = self.rng.integers(0, ITEMS, int(known.sum()))
        return torch.from_numpy(np.stack([users, items, negatives], axis=1))

    def __getitem__(self, index):
        return self.__getitems__([index])[0]


class Factors(nn.Module):
    def __init__(self, dim=12):
        super().__init__()
        self.user = nn.Embedding(USERS, dim, sparse=True)
        self.item = nn.Embedding(ITEMS, dim, sparse=True)
        self.bias = nn.Embedding(ITEMS, 1, sparse=True)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        nn.init.zeros_(self.bias.weight)

    def forward(self, users, items):
        return (self.user(users) * self.item(items)).sum(-1) + self.bias(items).squeeze(-1)

    def all_scores(self):
        return self.user.weight @ self.item.weight.t() + self.bias.weight.squeeze(1)

    def penalty(self, users, *items):
        rows = [self.user(users)] + [self.item(i) for i in items]
        return sum(r.pow(2).sum(1).mean() for r in rows)


def train_epoch(model, loader, optimizer, strength):
    model.train()
    total, count = 0.0, 0
    for batch in loader:
        users, liked, other = batch.unbind(1)
        margin = model(users, liked) - model(users, other)
        loss = -F.logsigmoid(margin).mean()
        optimizer.zero_grad()
        (loss + strength * model.penalty(users, liked, other)).backward()
        optimizer.step()
        total += loss.item() * len(batch)
        count += len(batch)
    return total / count


@torch.no_grad()
def evaluate(model, seen, held_out, k=10):
    """Held-out clicks among all items that the user had not clicked in training."""
    model.eval()
    users, items = torch.from_numpy(held_out).unbind(1)
    scores = model.all_scores().masked_fill(torch.from_numpy(seen), float("-inf"))
    own = scores[users, items]
    others = scores[users]
    allowed = torch.from_numpy(seen)[users].logical_not()
    above = (others > own[:, None]).sum(1)
    hits = (above < k).float()
    gain = hits / torch.log2(above.float() + 2)
    auc = 1 - above.float() / (allowed.sum(1) - 1)
    return hits.mean().item(), gain.mean().item(), auc.mean().item()


if __name__ == "__main__":
    torch.manual_seed(4)
    clicks, held_out = make_clicks()
    dataset = Triples(clicks, seed=4)
    loader = DataLoader(dataset, batch_size=256, shuffle=True, collate_fn=lambda rows: rows)
    model = Factors()
    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=1e-2)
    order = dataset.seen.sum(0).argsort()[::-1][:10]
    print(f"{len(clicks)} clicks; the ten items clicked most hold {np.isin(held_out[:, 1], order).mean():.3f} of the rest")
    for epoch in range(45):
        if epoch == 32:
            for group in optimizer.param_groups:
                group["lr"] *= 0.3
        loss = train_epoch(model, loader, optimizer, strength=0.02)
        hit, ndcg, auc = evaluate(model, dataset.seen, held_out)
        print(f"epoch {epoch:2d} bpr {loss:.4f} | hit@10 {hit:.3f} ndcg@10 {ndcg:.3f} auc {auc:.3f}")
