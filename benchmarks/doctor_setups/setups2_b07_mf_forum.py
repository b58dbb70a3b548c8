# Hi all, I am new to PyTorch and try matrix factorization for a recommender.
# My ratings are floats between 1 and 5 (users give half stars, I average over visits).
# This is my full code, it should run as is.

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

N_USERS = 50
N_ITEMS = 40
N_FACTORS = 3
BATCH_SIZE = 64
LR = 0.02
WEIGHT_DECAY = 1e-5


def make_ratings():
    # fake data with the same structure as my real data:
    # some users are nicer than others, some items are better, and tastes differ
    g = torch.Generator().manual_seed(0)
    user_taste = torch.randn(N_USERS, 2, generator=g)
    item_taste = torch.randn(N_ITEMS, 2, generator=g)
    user_mean = 0.4 * torch.randn(N_USERS, 1, generator=g)
    item_mean = 0.5 * torch.randn(1, N_ITEMS, generator=g)
    score = user_taste @ item_taste.T + user_mean + item_mean
    table = 1 + 4 * torch.sigmoid(score)
    table = (table + 0.15 * torch.randn(table.shape, generator=g)).clamp(1, 5)
    # one row for each (user, item) pair
    users = torch.arange(N_USERS).repeat_interleave(N_ITEMS)
    items = torch.arange(N_ITEMS).repeat(N_USERS)
    return users, items, table.flatten()


class RatingsDataset(Dataset):
    def __init__(self, users, items, ratings):
        self.users = users
        self.items = items
        self.ratings = ratings

    def __len__(self):
        return len(self.ratings)

    def __getitem__(self, idx):
        pair = torch.stack([self.users[idx], self.items[idx]])
        return pair, self.ratings[idx]


class MatrixFactorization(nn.Module):
    def __init__(self, n_users, n_items, n_factors):
        super().__init__()
        self.user_factors = nn.Embedding(n_users, n_factors)
        self.item_factors = nn.Embedding(n_items, n_factors)
        self.user_bias = nn.Embedding(n_users, 1)
        self.item_bias = nn.Embedding(n_items, 1)
        nn.init.normal_(self.user_factors.weight, std=0.3)
        nn.init.normal_(self.item_factors.weight, std=0.3)
        nn.init.zeros_(self.user_bias.weight)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, pairs):
        user, item = pairs[:, 0], pairs[:, 1]
        dot = (self.user_factors(user) * self.item_factors(item)).sum(dim=1)
        dot = dot + self.user_bias(user).squeeze(1) + self.item_bias(item).squeeze(1)
        # ratings go from 1 to 5
        rating = 1 + 4 * torch.sigmoid(dot)
        return rating


def criterion(predictions, ratings):
    return ((predictions - ratings) ** 2).mean()


def train_step(model, batch, optimizer, loss_fn):
    model.train()
    pairs, ratings = batch
    optimizer.zero_grad()
    predictions = model(pairs)
    loss = loss_fn(predictions, ratings)
    loss.backward()
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(1)
    users, items, ratings = make_ratings()

    # random split, 1600 ratings for training and 400 for validation
    perm = torch.randperm(len(ratings))
    train_idx, val_idx = perm[:1600], perm[1600:]
    train_set = RatingsDataset(users[train_idx], items[train_idx], ratings[train_idx])
    val_set = RatingsDataset(users[val_idx], items[val_idx], ratings[val_idx])
    train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100, shuffle=False)

    model = MatrixFactorization(N_USERS, N_ITEMS, N_FACTORS)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)

    return {
        "model": model,
        "train": train_loader,
        "val": val_loader,
        "loss": criterion,
        "optimizer": optimizer,
        "step": train_step,
        "task": "regress",
    }
