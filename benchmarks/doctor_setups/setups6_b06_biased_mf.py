"""Biased matrix factorization with averaged tables for evaluation (code of a paper: cfg, registry, engine)."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

cfg = {
    "seed": 0,
    "data": {"n_users": 40, "n_items": 60, "n_train": 1600, "n_test": 400, "batch_size": 64, "rating_range": (1.0, 5.0)},
    "model": {"name": "biased_mf", "rank": 3, "init_std": 0.1, "ema_decay": 0.9},
    "optim": {"name": "adamw", "lr": 0.02, "wd": 0.1, "warmup": 10},
}
MODELS = {}


def register(name):
    def wrap(cls):
        MODELS[name] = cls
        return cls
    return wrap


def synthesize(n_users, n_items, n_train, n_test, **_):
    """Explicit feedback: every pair (user, item) is rated once at most."""
    rng = np.random.default_rng(17)
    p, q = rng.normal(0, 1, (n_users, 2)), rng.normal(0, 1, (n_items, 2))
    score = 3.0 + 0.5 * rng.normal(size=(n_users, 1)) + 0.6 * rng.normal(size=(1, n_items)) + 0.6 * p @ q.T
    score = np.clip(np.round(2 * (score + rng.normal(0, 0.15, score.shape))) / 2, 1, 5)
    pick = rng.permutation(n_users * n_items)[: n_train + n_test]
    users, items = pick // n_items, pick % n_items
    log = np.stack([users, items, score[users, items]], axis=1)
    return log[:n_train], log[n_train:]


class RatingLog(Dataset):
    def __init__(self, log):
        self.pairs = torch.from_numpy(log[:, :2]).long()
        self.ratings = torch.from_numpy(log[:, 2]).float()

    def __len__(self):
        return len(self.ratings)

    def __getitem__(self, index):
        return self.pairs[index], self.ratings[index]


@register("biased_mf")
class BiasedMF(nn.Module):
    TABLES = ("user_factors", "item_factors", "user_bias", "item_bias")

    def __init__(self, n_users, n_items, rank, init_std, ema_decay, rating_range):
        super().__init__()
        self.ema_decay, self.rating_range = ema_decay, rating_range
        self.user_factors, self.item_factors = nn.Embedding(n_users, rank), nn.Embedding(n_items, rank)
        self.user_bias, self.item_bias = nn.Embedding(n_users, 1), nn.Embedding(n_items, 1)
        for name in self.TABLES:
            weight = getattr(self, name).weight
            nn.init.normal_(weight, std=init_std)
            self.register_buffer(f"{name}_ema", weight.detach().clone())

    @torch.no_grad()
    def update_ema(self):
        for name in self.TABLES:
            average, weight = getattr(self, f"{name}_ema"), getattr(self, name).weight
            average.mul_(self.ema_decay).add_(weight, alpha=1 - self.ema_decay)

    def lookup(self, name, index):
        if self.training:
            return getattr(self, name)(index)
        return F.embedding(index, getattr(self, f"{name}_ema"))

    def forward(self, pairs):
        user, item = pairs[:, 0], pairs[:, 1]
        score = (self.lookup("user_factors", user) * self.lookup("item_factors", item)).sum(1)
        score = score + self.lookup("user_bias", user).squeeze(1) + self.lookup("item_bias", item).squeeze(1)
        low, high = self.rating_range
        return low + (high - low) * torch.sigmoid(score)


def build_optimizer(cfg, model):
    decay = [p for name, p in model.named_parameters() if "factors" in name]
    no_decay = [p for name, p in model.named_parameters() if "bias" in name]
    groups = [{"params": decay, "weight_decay": cfg["wd"]}, {"params": no_decay, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=cfg["lr"])


class Engine:
    def __init__(self, cfg):
        self.warmup = cfg["optim"]["warmup"]

    def train_step(self, model, batch, optimizer, criterion):
        model.train()
        for group in optimizer.param_groups:
            base = group.setdefault("base_lr", group["lr"])
            group["n_steps"] = group.get("n_steps", 0) + 1
            group["lr"] = base * min(1.0, group["n_steps"] / self.warmup)
        pairs, ratings = batch
        loss = criterion(model(pairs), ratings)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        model.update_ema()
        return loss.detach()


def setup():
    torch.manual_seed(cfg["seed"])
    data = cfg["data"]
    train_log, test_log = synthesize(**data)
    train = DataLoader(RatingLog(train_log), batch_size=data["batch_size"], shuffle=True)
    test = DataLoader(RatingLog(test_log), batch_size=200)
    options = {key: value for key, value in cfg["model"].items() if key != "name"}
    model = MODELS[cfg["model"]["name"]](data["n_users"], data["n_items"], rating_range=data["rating_range"], **options)
    optimizer = build_optimizer(cfg["optim"], model)
    return dict(model=model, train=train, val=test, loss=nn.MSELoss(), optimizer=optimizer, step=Engine(cfg).train_step, task="regress")
