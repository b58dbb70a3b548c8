"""Matrix factorization for implicit feedback, trained with Bayesian personalized ranking; leave-one-out evaluation."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Args:
    users: int = 900
    items: int = 250
    per_user: int = 26
    factors: int = 16
    lr: float = 5e-3
    reg: float = 2e-3
    batch_size: int = 512
    epochs: int = 60
    topk: int = 10
    seed: int = 77


class Interactions:
    """Users take items they like; one of each user's items is for validation, one for the test."""

    def __init__(self, args):
        rng = np.random.default_rng(args.seed)
        taste, traits = rng.normal(size=(args.users, 4)), rng.normal(size=(args.items, 4))
        popularity = 0.5 * rng.normal(size=args.items)
        liking = 2 * taste @ traits.T + popularity + rng.gumbel(size=(args.users, args.items))
        chosen = np.argsort(-liking, axis=1)[:, : args.per_user]
        chosen = rng.permuted(chosen, axis=1)
        self.valid, self.test, train = chosen[:, 0], chosen[:, 1], chosen[:, 2:]
        users = np.repeat(np.arange(args.users), train.shape[1])
        self.train_pairs = torch.tensor(np.stack([users, train.reshape(-1)], axis=1))
        self.seen = torch.zeros(args.users, args.items, dtype=torch.bool)
        self.seen[self.train_pairs[:, 0], self.train_pairs[:, 1]] = True
        self.valid, self.test = torch.tensor(self.valid), torch.tensor(self.test)

    def sample_negatives(self, users):
        """Random items that the user did not take in training."""
        negatives = torch.randint(0, self.seen.shape[1], users.shape)
        while True:
            taken = self.seen[users, negatives]
            if not taken.any():
                return negatives
            negatives[taken] = torch.randint(0, self.seen.shape[1], (int(taken.sum()),))


class BPRMF(nn.Module):
    def __init__(self, users, items, factors):
        super().__init__()
        self.user = nn.Embedding(users, factors)
        self.item = nn.Embedding(items, factors)
        self.item_bias = nn.Embedding(items, 1)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        nn.init.zeros_(self.item_bias.weight)

    def score(self, users, items):
        return (self.user(users) * self.item(items)).sum(-1) + self.item_bias(items).squeeze(-1)

    def forward(self, users, positives, negatives):
        return self.score(users, positives) - self.score(users, negatives)

    def score_all(self):
        return self.user.weight @ self.item.weight.T + self.item_bias.weight.T

    def penalty(self, users, positives, negatives):
        norms = self.user(users).pow(2).sum() + self.item(positives).pow(2).sum() + self.item(negatives).pow(2).sum()
        return norms / len(users)


def bpr_loss(difference):
    return -F.logsigmoid(difference).mean()


@torch.no_grad()
def evaluate(model, data, held_out, others, topk):
    """Hit rate and NDCG of the held-out item among all items that the user did not take otherwise."""
    model.eval()
    scores = model.score_all().masked_fill(data.seen, float("-inf"))
    rows = torch.arange(len(held_out))
    if others is not None:
        scores[rows, others] = float("-inf")
    own = scores[rows, held_out].unsqueeze(1)
    rank = (scores > own).sum(dim=1)
    hit = rank < topk
    ndcg = torch.where(hit, 1 / torch.log2(rank + 2.0), torch.zeros(len(rank)))
    return hit.float().mean().item(), ndcg.mean().item()


def popularity_hit_rate(data, topk):
    counts = data.seen.sum(dim=0).float().expand(len(data.seen), -1).masked_fill(data.seen, -1.0)
    top = counts.topk(topk, dim=1).indices
    return (top == data.valid.unsqueeze(1)).any(dim=1).float().mean().item()


def main():
    args = Args()
    torch.manual_seed(args.seed)
    data = Interactions(args)
    print(f"{len(data.train_pairs)} training pairs, popularity reaches HR@{args.topk} {popularity_hit_rate(data, args.topk):.3f}")
    model = BPRMF(args.users, args.items, args.factors)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    best, best_state, waited = 0.0, None, 0
    for epoch in range(1, args.epochs + 1):
        model.train()
        losses = []
        for index in torch.randperm(len(data.train_pairs)).split(args.batch_size):
            users, positives = data.train_pairs[index].unbind(1)
            negatives = data.sample_negatives(users)
            loss = bpr_loss(model(users, positives, negatives))
            total = loss + args.reg * model.penalty(users, positives, negatives)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            losses.append(loss.item())
        hit_rate, ndcg = evaluate(model, data, data.valid, None, args.topk)
        print(f"epoch {epoch:2d} BPR loss {np.mean(losses):.4f} HR@{args.topk} {hit_rate:.4f} NDCG@{args.topk} {ndcg:.4f}")
        if ndcg > best:
            best, waited = ndcg, 0
            best_state = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            waited += 1
            if waited >= 15:
                break
    model.load_state_dict(best_state)
    hit_rate, ndcg = evaluate(model, data, data.test, data.valid, args.topk)
    print(f"test HR@{args.topk} {hit_rate:.4f} NDCG@{args.topk} {ndcg:.4f}")


if __name__ == "__main__":
    main()
