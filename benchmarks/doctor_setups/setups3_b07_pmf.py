"""Probabilistic matrix factorization with averaged weights (code of the paper, `configs/toy.yaml` inlined)."""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CONFIG = {
    "seed": 3,
    "data": {"num_users": 60, "num_items": 40, "true_rank": 2, "noise": 0.25, "num_train": 1600, "num_val": 400},
    "model": {"dim": 6, "init_std": 0.3, "sigma": 1.0, "ema_decay": 0.97},
    "optim": {"lr": 2e-2, "weight_decay": 1e-3, "batch_size": 64, "max_norm": 5.0},
}


def build_ratings(num_users, num_items, true_rank, noise, num_train, num_val):
    """Pairs (user, item), each at most once, and ratings around 3.5."""
    generator = torch.Generator().manual_seed(17)
    users = 0.8 * torch.randn(num_users, true_rank, generator=generator)
    items = 0.8 * torch.randn(num_items, true_rank, generator=generator)
    user_bias = 0.6 * torch.randn(num_users, 1, generator=generator)
    item_bias = 0.8 * torch.randn(1, num_items, generator=generator)
    ratings = 3.5 + user_bias + item_bias + users @ items.T
    ratings = ratings + noise * torch.randn(ratings.shape, generator=generator)
    cells = torch.randperm(num_users * num_items, generator=generator)[: num_train + num_val]
    pairs = torch.stack([cells // num_items, cells % num_items], dim=1)
    values = ratings.flatten()[cells]
    train = TensorDataset(pairs[:num_train], values[:num_train])
    val = TensorDataset(pairs[num_train:], values[num_train:])
    return train, val


class PMF(nn.Module):
    def __init__(self, num_users, num_items, dim, init_std, mean):
        super().__init__()
        self.user_factors = nn.Embedding(num_users, dim)
        self.item_factors = nn.Embedding(num_items, dim)
        self.user_bias = nn.Embedding(num_users, 1)
        self.item_bias = nn.Embedding(num_items, 1)
        self.register_buffer("mean", torch.tensor(mean))
        nn.init.normal_(self.user_factors.weight, std=init_std)
        nn.init.normal_(self.item_factors.weight, std=init_std)
        nn.init.zeros_(self.user_bias.weight)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, pairs):
        user, item = pairs[:, 0], pairs[:, 1]
        affinity = (self.user_factors(user) * self.item_factors(item)).sum(-1)
        return self.mean + affinity + self.user_bias(user).squeeze(-1) + self.item_bias(item).squeeze(-1)


class Averaged(nn.Module):
    """Trains `online`, and predicts with an exponential moving average of its weights."""

    def __init__(self, net, decay):
        super().__init__()
        self.online = net
        self.average = copy.deepcopy(net).requires_grad_(False)
        self.decay = decay
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.long))

    def forward(self, pairs):
        return self.online(pairs) if self.training else self.average(pairs)

    @torch.no_grad()
    def update(self):
        self.num_updates += 1
        count = int(self.num_updates)
        decay = min(self.decay, (1 + count) / (10 + count))
        for avg, param in zip(self.average.parameters(), self.online.parameters()):
            avg.mul_(decay).add_(param, alpha=1 - decay)


class GaussianNLL(nn.Module):
    def __init__(self, sigma):
        super().__init__()
        self.sigma = sigma

    def forward(self, predicted, rating):
        log_prob = torch.distributions.Normal(predicted, self.sigma, validate_args=False).log_prob(rating)
        return -log_prob.mean()


def train_step(model, batch, optimizer, loss):
    pairs, rating = batch
    model.train()
    optimizer.zero_grad()
    objective = loss(model(pairs), rating)
    objective.backward()
    nn.utils.clip_grad_norm_(model.online.parameters(), CONFIG["optim"]["max_norm"])
    optimizer.step()
    model.update()
    return objective


def build_optimizer(params):
    trained = [p for p in params if p.requires_grad]
    return torch.optim.Adam(trained, lr=CONFIG["optim"]["lr"], weight_decay=CONFIG["optim"]["weight_decay"])


def setup():
    torch.manual_seed(CONFIG["seed"])
    data, cfg = CONFIG["data"], CONFIG["model"]
    train, val = build_ratings(**data)
    mean = float(train.tensors[1].mean())
    net = PMF(data["num_users"], data["num_items"], cfg["dim"], cfg["init_std"], mean)
    return {
        "model": Averaged(net, cfg["ema_decay"]),
        "train": DataLoader(train, batch_size=CONFIG["optim"]["batch_size"], shuffle=True),
        "val": DataLoader(val, batch_size=200),
        "loss": GaussianNLL(cfg["sigma"]),
        "optimizer": build_optimizer,
        "step": train_step,
        "task": "regress",
    }
