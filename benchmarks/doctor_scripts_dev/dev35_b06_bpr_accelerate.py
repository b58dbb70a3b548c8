"""Item recommendation from clicks: matrix factorization, Bayesian personalized ranking, Accelerate.

Protocol: some clicked items of each user are held out; each is ranked among items the user never clicked.
"""

from argparse import Namespace

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

config = Namespace(
    num_users=300,
    num_items=120,
    clicks_per_user=40,
    dim=8,
    batch_size=256,
    epochs=15,
    lr=2e-2,
    weight_decay=1e-5,
    num_candidates=50,
    seed=42,
)


def simulate_clicks(config):
    """A log of clicks: users come back to what they like, so a pair may be there several times."""
    rng = np.random.default_rng(config.seed)
    tastes = rng.normal(size=(config.num_users, 3))
    styles = rng.normal(size=(config.num_items, 3))
    preference = 1.2 * tastes @ styles.T
    share = np.exp(preference - preference.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    rows = []
    for user in range(config.num_users):
        for item in rng.choice(config.num_items, size=config.clicks_per_user, p=share[user]):
            rows.append({"user": user, "item": int(item)})
    return pd.DataFrame(rows)


class TripletDataset(Dataset):
    """A user, an item that was clicked, and one that was not."""

    def __init__(self, pairs, num_items, seed=0):
        self.users = pairs["user"].tolist()
        self.items = pairs["item"].tolist()
        self.clicked = pairs.groupby("user")["item"].agg(set).to_dict()
        self.num_items = num_items
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return len(self.users)

    def __getitem__(self, index):
        user = self.users[index]
        negative = int(self.rng.integers(self.num_items))
        while negative in self.clicked[user]:
            negative = int(self.rng.integers(self.num_items))
        return user, self.items[index], negative


def factors(rows, dim):
    return nn.Embedding.from_pretrained(0.1 * torch.randn(rows, dim), freeze=False)


class BPRMF(nn.Module):
    def __init__(self, num_users, num_items, dim):
        super().__init__()
        self.user_factors = factors(num_users, dim)
        self.item_factors = factors(num_items, dim)
        self.item_bias = nn.Embedding(num_items, 1)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, users, items):
        interaction = (self.user_factors(users) * self.item_factors(items)).sum(dim=-1)
        return interaction + self.item_bias(items).squeeze(-1)


@torch.no_grad()
def evaluate(model, users, items, candidates, k=10):
    """AUC and hit rate of held-out items (N,) among candidates (N, C)."""
    model.eval()
    positive = model(users, items).unsqueeze(1)
    negative = model(users.unsqueeze(1), candidates)
    auc = (positive > negative).float().mean().item()
    rank = (negative >= positive).sum(dim=1)
    return auc, (rank < k).float().mean().item()


def main():
    set_seed(config.seed)
    accelerator = Accelerator(cpu=True)

    clicks = simulate_clicks(config)
    pairs = clicks.drop_duplicates(["user", "item"])
    train_pairs, valid_pairs = train_test_split(pairs, test_size=0.2, random_state=config.seed)
    accelerator.print(f"{len(clicks)} clicks, {len(train_pairs)} pairs to train, {len(valid_pairs)} held out")

    rng = np.random.default_rng(config.seed + 1)
    clicked = clicks.groupby("user")["item"].agg(set)
    never = {user: np.setdiff1d(np.arange(config.num_items), list(seen)) for user, seen in clicked.items()}
    candidates = np.stack([rng.choice(never[user], config.num_candidates, replace=False) for user in valid_pairs["user"]])
    valid = (
        torch.tensor(valid_pairs["user"].to_numpy()),
        torch.tensor(valid_pairs["item"].to_numpy()),
        torch.from_numpy(candidates),
    )

    dataset = TripletDataset(train_pairs, config.num_items, config.seed)
    loader = DataLoader(dataset, batch_size=config.batch_size, shuffle=True, drop_last=True)
    model = BPRMF(config.num_users, config.num_items, config.dim)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    best_hit = 0.0
    for epoch in range(config.epochs):
        model.train()
        total_loss = 0.0
        for users, positives, negatives in loader:
            positive_scores = model(users, positives)
            negative_scores = model(users, negatives)
            loss = -F.logsigmoid(positive_scores - negative_scores).mean()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            total_loss += loss.item()
        auc, hit = evaluate(accelerator.unwrap_model(model), *valid)
        best_hit = max(best_hit, hit)
        accelerator.print(
            f"epoch {epoch + 1}: loss {total_loss / len(loader):.4f}, valid AUC {auc:.4f}, hit@10 of 51 {hit:.4f}"
        )
    accelerator.print(f"best hit@10: {best_hit:.4f}")
    accelerator.end_training()


if __name__ == "__main__":
    main()
