"""Recommendations from what users chose: matrix factorization, Bayesian personalized ranking, sampled negatives."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

USERS, ITEMS, TASTES = 400, 240, 4
CHOSEN, HELD_OUT = 30, 5


def make_choices(seed=0):
    """Each user's choices, by taste and some popularity, in random order."""
    rng = torch.Generator().manual_seed(seed)
    user = torch.randn(USERS, TASTES, generator=rng)
    item = torch.randn(ITEMS, TASTES, generator=rng)
    popularity = 0.5 * torch.randn(ITEMS, generator=rng)
    score = user @ item.T + popularity + 0.3 * torch.randn(USERS, ITEMS, generator=rng)
    top = score.topk(CHOSEN, dim=1).indices
    order = torch.rand(USERS, CHOSEN, generator=rng).argsort(1)
    return top.gather(1, order)


class Triples(Dataset):
    """(user, chosen item, item not chosen), the latter drawn anew each time."""

    def __init__(self, train_choices):
        self.pairs = [(u, i) for u, row in enumerate(train_choices.tolist()) for i in row]
        self.known = [set(row) for row in train_choices.tolist()]

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        user, positive = self.pairs[index]
        negative = int(torch.randint(ITEMS, ()))
        while negative in self.known[user]:
            negative = int(torch.randint(ITEMS, ()))
        return user, positive, negative


class BPR(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.user = nn.Embedding(USERS, dim)
        self.item = nn.Embedding(ITEMS, dim)
        self.bias = nn.Embedding(ITEMS, 1)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        nn.init.zeros_(self.bias.weight)

    def forward(self, users, items):
        return (self.user(users) * self.item(items)).sum(-1) + self.bias(items).squeeze(-1)

    def all_scores(self):
        return self.user.weight @ self.item.weight.T + self.bias.weight.T

    def penalty(self, users, positives, negatives):
        rows = (self.user(users), self.item(positives), self.item(negatives))
        return sum(row.square().sum() for row in rows) / len(users)


@torch.no_grad()
def evaluate(model, train_choices, held_out, k=20):
    model.eval()
    scores = model.all_scores()
    scores = scores.scatter(1, train_choices, float("-inf"))
    top = scores.topk(k, dim=1).indices
    recall = (top[:, :, None] == held_out[:, None, :]).any(1).float().mean().item()
    positive = scores.gather(1, held_out)
    others = torch.isfinite(scores).scatter(1, held_out, False)
    wins = ((positive[:, :, None] > scores[:, None, :]) & others[:, None, :]).sum((1, 2)).float()
    auc = (wins / (others.sum(1) * held_out.shape[1])).mean().item()
    return recall, auc


def train(model, loader, optimizer, decay):
    model.train()
    total = 0.0
    for users, positives, negatives in loader:
        margin = model(users, positives) - model(users, negatives)
        ranking = -F.logsigmoid(margin).mean()
        loss = ranking + decay * model.penalty(users, positives, negatives)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += ranking.item() * len(users)
    return total / len(loader.dataset)


if __name__ == "__main__":
    torch.manual_seed(0)
    choices = make_choices()
    held_out, train_choices = choices[:, :HELD_OUT], choices[:, HELD_OUT:]
    loader = DataLoader(Triples(train_choices), batch_size=128, shuffle=True)
    model = BPR()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    chance = 20 / (ITEMS - CHOSEN + HELD_OUT)
    print(f"recall@20 by chance {chance:.3f}")
    for epoch in range(18):
        loss = train(model, loader, optimizer, decay=2e-3)
        recall, auc = evaluate(model, train_choices, held_out)
        print(f"epoch {epoch + 1:2d}  ranking loss {loss:.4f}  recall@20 {recall:.3f}  auc {auc:.3f}")
