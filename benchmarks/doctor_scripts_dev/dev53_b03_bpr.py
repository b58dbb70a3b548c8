"""Matrix factorization with the BPR loss on implicit feedback; leave-two-out hit ratio and NDCG."""

import argparse
import copy
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset


def make_interactions(n_users, n_items, n_groups, seed):
    """Users like the items of their own group, and take one item of another now and then."""
    rng = np.random.RandomState(seed)
    item_group = rng.permutation(np.arange(n_items) % n_groups)
    user_group = rng.randint(0, n_groups, n_users)
    train, test = [], []
    for user in range(n_users):
        own = np.flatnonzero(item_group == user_group[user])
        other = np.flatnonzero(item_group != user_group[user])
        liked = rng.choice(own, 10, replace=False)
        held_out, kept = liked[:2], liked[2:]
        train += [(user, int(item)) for item in kept]
        train.append((user, int(rng.choice(other))))
        test += [(user, int(item)) for item in held_out]
    return train, test


class BPRData(Dataset):
    """Each training pair with an item that the user has not taken, drawn anew each time."""

    def __init__(self, pairs, n_users, n_items):
        self.pairs = pairs
        self.n_items = n_items
        self.seen = [set() for _ in range(n_users)]
        for user, item in pairs:
            self.seen[user].add(item)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        user, item = self.pairs[index]
        negative = int(torch.randint(self.n_items, (1,)))
        while negative in self.seen[user]:
            negative = int(torch.randint(self.n_items, (1,)))
        return user, item, negative


class MF(nn.Module):
    def __init__(self, n_users, n_items, dim):
        super().__init__()
        self.user_emb = nn.Embedding(n_users, dim)
        self.item_emb = nn.Embedding(n_items, dim)
        self.item_bias = nn.Embedding(n_items, 1)
        nn.init.normal_(self.user_emb.weight, std=0.1)
        nn.init.normal_(self.item_emb.weight, std=0.1)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, users, items):
        return (self.user_emb(users) * self.item_emb(items)).sum(-1) + self.item_bias(items).squeeze(-1)

    def score_all(self, users):
        return self.user_emb(users) @ self.item_emb.weight.t() + self.item_bias.weight.squeeze(-1)


class Trainer:
    def __init__(self, args):
        self.args = args
        train, test = make_interactions(args.users, args.items, args.groups, args.seed)
        self.data = BPRData(train, args.users, args.items)
        self.train_loader = DataLoader(self.data, batch_size=args.batch_size, shuffle=True)
        users, items = torch.tensor(test).unbind(1)
        self.test_loader = DataLoader(TensorDataset(users, items), batch_size=50)
        self.seen_mask = torch.zeros(args.users, args.items, dtype=torch.bool)
        for user, item in train:
            self.seen_mask[user, item] = True
        self.model = MF(args.users, args.items, args.factors)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=args.lr)

    def loss(self, users, positives, negatives):
        pos = self.model(users, positives)
        neg = self.model(users, negatives)
        bpr = -F.logsigmoid(pos - neg).sum()
        used = self.model.user_emb(users), self.model.item_emb(positives), self.model.item_emb(negatives)
        penalty = sum(weights.pow(2).sum() for weights in used)
        return bpr + self.args.reg * penalty

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for users, positives, negatives in self.train_loader:
            loss = self.loss(users, positives, negatives)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.data)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        hits, gain = 0, 0.0
        for users, items in self.test_loader:
            scores = self.model.score_all(users)
            scores[self.seen_mask[users]] = -float("inf")
            ranked = scores.topk(self.args.top_k, dim=1).indices
            found = ranked.eq(items.unsqueeze(1))
            hits += found.any(1).sum().item()
            discounts = 1.0 / torch.log2(torch.arange(self.args.top_k) + 2.0)
            gain += (found * discounts).sum().item()
        count = len(self.test_loader.dataset)
        return hits / count, gain / count

    def run(self):
        best_hr, best = 0.0, None
        for epoch in range(1, self.args.epochs + 1):
            start = time.time()
            loss = self.train_epoch()
            hr, ndcg = self.evaluate()
            print(f"epoch {epoch:2d}: loss {loss:.4f}, HR {hr:.3f}, NDCG {ndcg:.3f}, {time.time() - start:.1f} s")
            if hr > best_hr:
                best_hr, best = hr, (epoch, ndcg, copy.deepcopy(self.model.state_dict()))
        if best is not None:
            self.model.load_state_dict(best[2])
            print(f"best epoch {best[0]}: HR {best_hr:.3f}, NDCG {best[1]:.3f}")


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=120)
    parser.add_argument("--items", type=int, default=80)
    parser.add_argument("--groups", type=int, default=5)
    parser.add_argument("--factors", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--reg", type=float, default=0.002)
    parser.add_argument("--top-k", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    Trainer(args).run()


if __name__ == "__main__":
    main()
