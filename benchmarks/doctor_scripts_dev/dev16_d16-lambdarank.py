"""LambdaRank-style learning to rank: lists of different length, five grades of relevance."""
from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

FEATURES, GRADES = 12, 5
torch.manual_seed(1905)


# ---------------------------------------------------------------- data
def simulate_queries(count: int, generator: torch.Generator):
    """List of (documents x features, grades). Each query shifts and stretches the features of its documents."""
    queries = []
    for _ in range(count):
        n = int(torch.randint(10, 25, (1,), generator=generator))
        doc = torch.randn(n, FEATURES, generator=generator)
        merit = 1.2 * doc[:, 0] + doc[:, 1] * doc[:, 2] - 0.8 * doc[:, 3].abs() + 0.6 * torch.sin(2 * doc[:, 4])
        merit = merit + 0.2 * torch.randn(n, generator=generator)
        grade = torch.bucketize(merit, torch.tensor([-0.4, 0.5, 1.4, 2.4]))
        shift = torch.randn(FEATURES, generator=generator)
        stretch = torch.rand(FEATURES, generator=generator) + 0.5
        queries.append((doc * stretch + shift, grade))
    return queries


def per_query_zscore(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(0)) / (x.std(0) + 1e-6)


def pad(queries):
    longest = max(len(g) for _, g in queries)
    x = torch.zeros(len(queries), longest, FEATURES)
    rel = torch.zeros(len(queries), longest)
    real = torch.zeros(len(queries), longest, dtype=torch.bool)
    for row, (docs, grade) in enumerate(queries):
        x[row, : len(grade)] = per_query_zscore(docs)
        rel[row, : len(grade)] = grade.float()
        real[row, : len(grade)] = True
    return x, rel, real


# ---------------------------------------------------------------- ranking
def ranks(scores, real):
    order = scores.masked_fill(~real, -torch.inf).argsort(dim=1, descending=True)
    return torch.empty_like(order).scatter_(1, order, torch.arange(scores.shape[1]).expand_as(order))


def gain(rel, real):
    return (2**rel - 1) * real


def ideal_dcg(rel, real, k=None):
    best = gain(rel, real).sort(dim=1, descending=True).values[:, :k]
    return (best / torch.log2(torch.arange(best.shape[1]) + 2.0)).sum(1)


def ndcg(scores, rel, real, k=10):
    place = ranks(scores, real)
    discount = torch.where(place < k, 1 / torch.log2(place + 2.0), torch.zeros(()))
    ideal = ideal_dcg(rel, real, k)
    counted = ideal > 0
    return ((gain(rel, real) * discount).sum(1)[counted] / ideal[counted]).mean().item()


def lambda_loss(scores, rel, real):
    """Logistic loss of each pair in the wrong or right order, weighted by what swapping the two changes in NDCG."""
    with torch.no_grad():
        discount = 1 / torch.log2(ranks(scores, real) + 2.0)
        g = gain(rel, real)
        weight = (g[:, :, None] - g[:, None, :]).abs() * (discount[:, :, None] - discount[:, None, :]).abs()
        weight = weight / ideal_dcg(rel, real).clamp(min=1e-6)[:, None, None]
        better = (rel[:, :, None] > rel[:, None, :]) & real[:, :, None] & real[:, None, :]
    margin = scores[:, :, None] - scores[:, None, :]
    return (F.softplus(-margin) * weight)[better].sum() / len(scores)


class Scorer(nn.Module):
    def __init__(self, widths=(64, 32)):
        super().__init__()
        layers, previous = [], FEATURES
        for w in widths:
            layers += [nn.Linear(previous, w), nn.ReLU()]
            previous = w
        self.mlp = nn.Sequential(*layers, nn.Linear(previous, 1, bias=False))

    def forward(self, x):
        return self.mlp(x).squeeze(-1)


# ---------------------------------------------------------------- training
generator = torch.Generator().manual_seed(1905)
train_queries = simulate_queries(600, generator)
validation = pad(simulate_queries(120, generator))
test = pad(simulate_queries(200, generator))

net = Scorer()
adam = torch.optim.Adam(net.parameters(), lr=2e-3, weight_decay=1e-5)
halve = torch.optim.lr_scheduler.MultiStepLR(adam, milestones=[14, 20], gamma=0.3)

best, snapshot = 0.0, None
for epoch in range(1, 25):
    net.train()
    summed = 0.0
    for chunk in torch.randperm(len(train_queries)).split(30):
        x, rel, real = pad([train_queries[i] for i in chunk.tolist()])
        loss = lambda_loss(net(x), rel, real)
        adam.zero_grad()
        loss.backward()
        adam.step()
        summed += loss.item() * len(chunk)
    halve.step()
    net.eval()
    with torch.no_grad():
        x, rel, real = validation
        value = ndcg(net(x), rel, real)
    if value > best:
        best, snapshot = value, {k: v.clone() for k, v in net.state_dict().items()}
    if epoch % 4 == 0:
        print(f"epoch {epoch:2d}  lambda loss {summed / len(train_queries):.4f}  validation NDCG@10 {value:.4f}")

net.load_state_dict(snapshot)
with torch.no_grad():
    x, rel, real = test
    print(f"test NDCG@10 {ndcg(net(x), rel, real):.4f}; order by chance {ndcg(torch.rand(rel.shape), rel, real):.4f}; "
          f"by the first feature {ndcg(x[..., 0], rel, real):.4f}")
