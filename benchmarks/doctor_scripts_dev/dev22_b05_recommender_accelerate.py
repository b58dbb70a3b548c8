"""Matrix factorization on implicit feedback, trained with Accelerate.

Protocol of neural collaborative filtering: one item of each user is held out, and has to be ranked among the
first ten of itself and 99 items that the user never touched (HR@10, NDCG@10).
"""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

config = SimpleNamespace(
    num_users=800,
    num_items=240,
    per_user=20,
    num_negatives=4,
    dim=8,
    batch_size=128,
    epochs=14,
    lr=2e-3,
    weight_decay=1e-6,
    top_k=10,
    seed=3,
)


def make_interactions(cfg):
    """The items that each user chose, in random order: a matrix of users x per_user."""
    g = torch.Generator().manual_seed(cfg.seed)
    taste = torch.randn(cfg.num_users, 4, generator=g)
    kind = torch.randn(cfg.num_items, 4, generator=g)
    gumbel = -torch.log(-torch.log(torch.rand(cfg.num_users, cfg.num_items, generator=g).clamp(1e-6, 1 - 1e-6)))
    chosen = (2 * taste @ kind.T + gumbel).topk(cfg.per_user, dim=1).indices
    shuffle = torch.rand(chosen.shape, generator=g).argsort(dim=1)
    return chosen.gather(1, shuffle)


class ImplicitDataset(Dataset):
    """Observed pairs with label 1, and for each of them a few unobserved pairs with label 0, drawn anew each epoch."""

    def __init__(self, positives, num_items, num_negatives):
        self.num_items, self.num_negatives = num_items, num_negatives
        num_users, per_user = positives.shape
        self.pos_users = torch.arange(num_users).repeat_interleave(per_user)
        self.pos_items = positives.reshape(-1)
        self.seen = torch.zeros(num_users, num_items, dtype=torch.bool)
        self.seen[self.pos_users, self.pos_items] = True
        self.resample()

    def resample(self):
        neg_users = self.pos_users.repeat_interleave(self.num_negatives)
        neg_items = torch.randint(0, self.num_items, (len(neg_users),))
        clash = self.seen[neg_users, neg_items]
        while clash.any():
            neg_items[clash] = torch.randint(0, self.num_items, (int(clash.sum()),))
            clash = self.seen[neg_users, neg_items]
        self.users = torch.cat([self.pos_users, neg_users])
        self.items = torch.cat([self.pos_items, neg_items])
        self.labels = torch.cat([torch.ones(len(self.pos_users)), torch.zeros(len(neg_users))])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.users[i], self.items[i], self.labels[i]


class MatrixFactorization(nn.Module):
    def __init__(self, num_users, num_items, dim):
        super().__init__()
        self.user_factors = nn.Embedding(num_users, dim)
        self.item_factors = nn.Embedding(num_items, dim)
        self.item_bias = nn.Embedding(num_items, 1)
        for table in (self.user_factors, self.item_factors):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, users, items):
        dot = (self.user_factors(users) * self.item_factors(items)).sum(-1)
        return dot + self.item_bias(items).squeeze(-1)


def candidates(train_items, held_out, num_items, count=99):
    """Per user the held-out item first, then items that the user never touched."""
    g = torch.Generator().manual_seed(99)
    weights = torch.ones(len(held_out), num_items)
    weights.scatter_(1, train_items, 0.0)
    weights.scatter_(1, held_out.unsqueeze(1), 0.0)
    negatives = torch.multinomial(weights, count, replacement=False, generator=g)
    return torch.cat([held_out.unsqueeze(1), negatives], dim=1)


@torch.no_grad()
def evaluate(model, ranked, top_k):
    model.eval()
    users = torch.arange(len(ranked)).unsqueeze(1).expand_as(ranked)
    scores = model(users, ranked)
    rank = (scores[:, 1:] >= scores[:, :1]).sum(dim=1)
    hit = (rank < top_k).float()
    ndcg = hit / torch.log2(rank.float() + 2)
    return hit.mean().item(), ndcg.mean().item()


def main(cfg):
    torch.set_num_threads(1)
    set_seed(cfg.seed)
    accelerator = Accelerator(cpu=True)

    chosen = make_interactions(cfg)
    train_items, held_out = chosen[:, :-1], chosen[:, -1]
    dataset = ImplicitDataset(train_items, cfg.num_items, cfg.num_negatives)
    loader = DataLoader(dataset, batch_size=cfg.batch_size, shuffle=True)
    ranked = candidates(train_items, held_out, cfg.num_items)

    model = MatrixFactorization(cfg.num_users, cfg.num_items, cfg.dim)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    for epoch in range(cfg.epochs):
        dataset.resample()
        model.train()
        running = torch.zeros(())
        for users, items, labels in loader:
            loss = F.binary_cross_entropy_with_logits(model(users, items), labels)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            running += loss.detach()
        hr, ndcg = evaluate(model, ranked, cfg.top_k)
        accelerator.print(
            f"epoch {epoch:2d} | loss {running.item() / len(loader):.4f} | HR@{cfg.top_k} {hr:.4f} | NDCG {ndcg:.4f}"
        )


if __name__ == "__main__":
    main(config)
