"""Ratings of movies: a data frame of user, movie and rating; NeuMF (factors and an MLP) predicts the rating."""
import os
import tempfile

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.model_selection import train_test_split

N_USERS, N_MOVIES, N_RATINGS = 500, 300, 60000
BATCH_SIZE = 512
EPOCHS = 32


def make_ratings(seed=0):
    rng = np.random.default_rng(seed)
    pairs = rng.choice(N_USERS * N_MOVIES, size=N_RATINGS, replace=False)
    users, movies = pairs // N_MOVIES, pairs % N_MOVIES
    p, q = rng.normal(0, 0.6, (N_USERS, 4)), rng.normal(0, 0.6, (N_MOVIES, 4))
    user_bias, movie_bias = rng.normal(0, 0.4, N_USERS), rng.normal(0, 0.4, N_MOVIES)
    rating = 3.0 + user_bias[users] + movie_bias[movies] + (p[users] * q[movies]).sum(1)
    rating = rating + rng.normal(0, 0.3, N_RATINGS)
    rating = (np.round(rating * 2) / 2).clip(0.5, 5.0)
    return pd.DataFrame({"userId": users + 1, "movieId": movies + 100, "rating": rating})


class NeuMF(nn.Module):
    def __init__(self, n_users, n_movies, factors=8, mlp_dim=16, mean=0.0):
        super().__init__()
        self.user_factors = nn.Embedding(n_users, factors)
        self.movie_factors = nn.Embedding(n_movies, factors)
        self.user_bias = nn.Embedding(n_users, 1)
        self.movie_bias = nn.Embedding(n_movies, 1)
        self.user_mlp = nn.Embedding(n_users, mlp_dim)
        self.movie_mlp = nn.Embedding(n_movies, mlp_dim)
        self.mlp = nn.Sequential(
            nn.Linear(2 * mlp_dim, 128), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(64, 1),
        )
        self.register_buffer("mean", torch.tensor(float(mean)))
        for emb in (self.user_factors, self.movie_factors, self.user_mlp, self.movie_mlp):
            nn.init.normal_(emb.weight, std=0.1)
        nn.init.zeros_(self.user_bias.weight)
        nn.init.zeros_(self.movie_bias.weight)

    def forward(self, users, movies):
        dot = (self.user_factors(users) * self.movie_factors(movies)).sum(dim=1)
        bias = (self.user_bias(users) + self.movie_bias(movies)).squeeze(1)
        deep = self.mlp(torch.cat([self.user_mlp(users), self.movie_mlp(movies)], dim=1)).squeeze(1)
        return self.mean + bias + dot + deep


class Batches:
    """Batches straight from tensors, much faster than a DataLoader that collects single ratings."""

    def __init__(self, df, batch_size, shuffle):
        self.users = torch.tensor(df["user"].values, dtype=torch.long)
        self.movies = torch.tensor(df["movie"].values, dtype=torch.long)
        self.ratings = torch.tensor(df["rating"].values, dtype=torch.float32)
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self):
        return (len(self.ratings) + self.batch_size - 1) // self.batch_size

    def __iter__(self):
        n = len(self.ratings)
        order = torch.randperm(n) if self.shuffle else torch.arange(n)
        for i in range(0, n, self.batch_size):
            idx = order[i:i + self.batch_size]
            yield self.users[idx], self.movies[idx], self.ratings[idx]


def evaluate(model, batches, device):
    model.eval()
    preds, truth = [], []
    with torch.no_grad():
        for users, movies, ratings in batches:
            preds.append(model(users.to(device), movies.to(device)).cpu())
            truth.append(ratings)
    preds, truth = torch.cat(preds), torch.cat(truth)
    rmse = torch.sqrt(F.mse_loss(preds, truth)).item()
    mae = F.l1_loss(preds, truth).item()
    return rmse, mae


torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

df = make_ratings()
df["user"] = df["userId"].astype("category").cat.codes
df["movie"] = df["movieId"].astype("category").cat.codes
n_users, n_movies = df["user"].nunique(), df["movie"].nunique()
print(df.describe().loc[["mean", "std", "min", "max"]])

train_df, test_df = train_test_split(df, test_size=0.1, random_state=0)
train_df, val_df = train_test_split(train_df, test_size=0.1, random_state=0)
train_batches = Batches(train_df, BATCH_SIZE, shuffle=True)
val_batches = Batches(val_df, 2048, shuffle=False)
test_batches = Batches(test_df, 2048, shuffle=False)

baseline = float(np.sqrt(((val_df["rating"] - train_df["rating"].mean()) ** 2).mean()))
print(f"RMSE of the mean rating: {baseline:.4f}")

model = NeuMF(n_users, n_movies, mean=train_df["rating"].mean()).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-5)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=2)
best_path = os.path.join(tempfile.mkdtemp(), "neumf.pt")
best_rmse = float("inf")

for epoch in range(EPOCHS):
    model.train()
    total_loss, total = 0.0, 0
    for users, movies, ratings in train_batches:
        users, movies, ratings = users.to(device), movies.to(device), ratings.to(device)
        optimizer.zero_grad()
        loss = F.mse_loss(model(users, movies), ratings)
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * len(ratings)
        total += len(ratings)
    val_rmse, val_mae = evaluate(model, val_batches, device)
    scheduler.step(val_rmse)
    print(f"epoch {epoch + 1:2d}  lr {optimizer.param_groups[0]['lr']:.5f}  "
          f"train RMSE {(total_loss / total) ** 0.5:.4f}  val RMSE {val_rmse:.4f}  val MAE {val_mae:.4f}")
    if val_rmse < best_rmse:
        best_rmse = val_rmse
        torch.save(model.state_dict(), best_path)

model.load_state_dict(torch.load(best_path, map_location=device))
test_rmse, test_mae = evaluate(model, test_batches, device)
print(f"best val RMSE {best_rmse:.4f}, test RMSE {test_rmse:.4f}, test MAE {test_mae:.4f}")
