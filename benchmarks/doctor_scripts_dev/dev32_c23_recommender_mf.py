"""Recommender: matrix factorization with biases on made ratings, RMSE against the mean and against biases alone."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

USERS, ITEMS, RATINGS = 300, 200, 24000


def make_ratings(seed=0, rank=3):
    rng = np.random.default_rng(seed)
    tastes, traits = rng.standard_normal((USERS, rank)), rng.standard_normal((ITEMS, rank))
    user_bias, item_bias = 0.4 * rng.standard_normal(USERS), 0.5 * rng.standard_normal(ITEMS)
    pairs = rng.choice(USERS * ITEMS, RATINGS, replace=False)  # no pair twice
    users, items = pairs // ITEMS, pairs % ITEMS
    stars = 3.4 + user_bias[users] + item_bias[items] + 0.45 * (tastes[users] * traits[items]).sum(1)
    stars = np.clip(stars + 0.2 * rng.standard_normal(RATINGS), 0.5, 5.0)
    return torch.from_numpy(users), torch.from_numpy(items), torch.from_numpy(stars).float()


class MatrixFactorization(nn.Module):
    def __init__(self, factors, mean):
        super().__init__()
        self.user_factors = nn.Embedding(USERS, factors)
        self.item_factors = nn.Embedding(ITEMS, factors)
        self.user_bias = nn.Embedding(USERS, 1)
        self.item_bias = nn.Embedding(ITEMS, 1)
        self.register_buffer("mean", mean)
        for table in (self.user_factors, self.item_factors):
            nn.init.normal_(table.weight, std=0.1)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def forward(self, users, items):
        match = (self.user_factors(users) * self.item_factors(items)).sum(dim=1)
        return self.mean + self.user_bias(users).squeeze(1) + self.item_bias(items).squeeze(1) + match

    def penalty(self, users, items):
        return self.user_factors(users).pow(2).sum(1).mean() + self.item_factors(items).pow(2).sum(1).mean()


class Recommender:
    def __init__(self, factors=6, lr=5e-3, l2=0.004, epochs=16, batch_size=256):
        self.factors, self.lr, self.l2, self.epochs, self.batch_size = factors, lr, l2, epochs, batch_size

    def fit(self, train, val):
        loader = DataLoader(TensorDataset(*train), batch_size=self.batch_size, shuffle=True)
        self.model = MatrixFactorization(self.factors, train[2].mean())
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs * len(loader))
        for epoch in range(self.epochs):
            self.model.train()
            squares = 0.0
            for users, items, stars in loader:
                error = nn.functional.mse_loss(self.model(users, items), stars)
                loss = error + self.l2 * self.model.penalty(users, items)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                squares += error.item() * len(stars)
            print(f"epoch {epoch + 1:2d} train RMSE {(squares / len(train[2])) ** 0.5:.4f} val RMSE {self.rmse(*val):.4f}")
        return self

    def predict(self, users, items):
        self.model.eval()
        with torch.no_grad():
            return self.model(users, items).clamp(0.5, 5.0)

    def rmse(self, users, items, stars):
        return (self.predict(users, items) - stars).pow(2).mean().sqrt().item()


if __name__ == "__main__":
    torch.manual_seed(0)
    columns = make_ratings()
    order = torch.randperm(RATINGS)
    parts = order[: int(0.8 * RATINGS)], order[int(0.8 * RATINGS) : int(0.9 * RATINGS)], order[int(0.9 * RATINGS) :]
    train, val, test = [tuple(column[rows] for column in columns) for rows in parts]
    print(f"RMSE of the mean {(val[2] - train[2].mean()).pow(2).mean().sqrt():.4f}")
    recommender = Recommender().fit(train, val)
    print(f"test RMSE {recommender.rmse(*test):.4f}")
