"""Two-tower retrieval with in-batch softmax on generated interactions."""
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser()
parser.add_argument("--n-users", type=int, default=600)
parser.add_argument("--n-items", type=int, default=300)
parser.add_argument("--dim", type=int, default=24)
parser.add_argument("--batch-size", type=int, default=128)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--lr", type=float, default=5e-3)
parser.add_argument("--temperature", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=11)


def simulate(n_users, n_items, per_user=25, seed=0):
    """Users with a taste, items with a genre mix; a user clicks what fits the taste."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=(n_users, 6))
    genre = rng.normal(size=(n_items, 6))
    popularity = rng.normal(0, 0.7, n_items)
    score = 1.6 * taste @ genre.T + popularity + rng.gumbel(size=(n_users, n_items))
    clicked = np.argsort(-score, axis=1)[:, :per_user]
    age = (taste[:, :2] @ np.array([[1.0], [0.5]])).astype(np.float32) + rng.normal(0, 0.5, (n_users, 1)).astype(np.float32)
    content = (genre + rng.normal(0, 0.6, genre.shape)).astype(np.float32)
    for row in clicked:
        rng.shuffle(row)
    return clicked, age.astype(np.float32), content


class ClickDataset(Dataset):
    def __init__(self, clicked):
        users = np.repeat(np.arange(len(clicked)), clicked.shape[1])
        items = clicked.reshape(-1)
        self.users, self.items = torch.from_numpy(users), torch.from_numpy(items)

    def __len__(self):
        return len(self.users)

    def __getitem__(self, i):
        return self.users[i], self.items[i]


class Tower(nn.Module):
    """Id embedding next to side features, then an MLP and a unit vector."""

    def __init__(self, n_ids, side, dim, out_dim):
        super().__init__()
        self.embedding = nn.Embedding(n_ids, dim)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.register_buffer("side", torch.from_numpy(side))
        self.mlp = nn.Sequential(nn.Linear(dim + side.shape[1], 64), nn.ReLU(), nn.Linear(64, out_dim))

    def forward(self, ids):
        x = torch.cat([self.embedding(ids), self.side[ids]], dim=1)
        return F.normalize(self.mlp(x), dim=1)


class TwoTower(nn.Module):
    def __init__(self, args, age, content):
        super().__init__()
        self.user_tower = Tower(args.n_users, age, args.dim, args.dim)
        self.item_tower = Tower(args.n_items, content, args.dim, args.dim)
        self.temperature = args.temperature

    def forward(self, users, items):
        return self.user_tower(users) @ self.item_tower(items).t() / self.temperature


def in_batch_loss(logits, items, log_q):
    """Sampled softmax with logQ correction; other rows with the same item are no negatives."""
    logits = logits - log_q[items][None, :]
    same = items[:, None] == items[None, :]
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -1e9)
    labels = torch.arange(len(items), device=logits.device)
    return F.cross_entropy(logits, labels)


@torch.no_grad()
def recall_at_k(model, train_clicks, test_clicks, k=20):
    model.eval()
    n_users, n_items = len(train_clicks), model.item_tower.embedding.num_embeddings
    scores = model(torch.arange(n_users), torch.arange(n_items))
    seen = torch.from_numpy(train_clicks)
    scores.scatter_(1, seen, float("-inf"))
    top = scores.topk(k, dim=1).indices.numpy()
    hits = [len(set(t) & set(true)) / len(true) for t, true in zip(top, test_clicks)]
    return float(np.mean(hits))


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    clicked, age, content = simulate(args.n_users, args.n_items)
    train_clicks, test_clicks = clicked[:, :20], clicked[:, 20:]
    loader = DataLoader(ClickDataset(train_clicks), batch_size=args.batch_size, shuffle=True, drop_last=True)
    counts = np.bincount(train_clicks.reshape(-1), minlength=args.n_items) + 1
    log_q = torch.log(torch.tensor(counts / counts.sum(), dtype=torch.float32))
    model = TwoTower(args, age, content)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs * len(loader))
    print(f"before training recall@20 {recall_at_k(model, train_clicks, test_clicks):.4f}")
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for users, items in loader:
            loss = in_batch_loss(model(users, items), items, log_q)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        recall = recall_at_k(model, train_clicks, test_clicks)
        print(f"epoch {epoch + 1} loss {total / len(loader):.4f} recall@20 {recall:.4f}")


if __name__ == "__main__":
    main()
