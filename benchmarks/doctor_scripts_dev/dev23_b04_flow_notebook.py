# %% [markdown]
# # RealNVP from scratch
# A normalizing flow learns the density of taxi positions: two bent streets on a map, in meters.

# %%
import math

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(7)
rng = np.random.default_rng(7)


# %%
def taxi_positions(count):
    angle = rng.uniform(0, np.pi, count)
    first = rng.random(count) < 0.5
    x = np.where(first, np.cos(angle), 1 - np.cos(angle))
    y = np.where(first, np.sin(angle), 0.5 - np.sin(angle))
    points = np.stack([x, y], axis=1) + rng.normal(0, 0.08, (count, 2))
    return torch.tensor(points * 120.0 + np.array([900.0, 400.0]), dtype=torch.float32)


raw_train, raw_val = taxi_positions(10240), taxi_positions(2048)
mean, std = raw_train.mean(dim=0), raw_train.std(dim=0)
train_points = (raw_train - mean) / std
val_points = (raw_val - mean) / std
loader = DataLoader(TensorDataset(train_points), batch_size=256, shuffle=True)
print("points for training:", tuple(train_points.shape), "for validation:", tuple(val_points.shape))


# %% [markdown]
# Each coupling layer leaves one coordinate as it is and moves and scales the other by what it knows of the first.


# %%
class Coupling(nn.Module):
    def __init__(self, mask, hidden=128):
        super().__init__()
        self.register_buffer("mask", torch.tensor(mask))
        self.net = nn.Sequential(
            nn.Linear(2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 4),
        )

    def scale_and_shift(self, kept):
        scale, shift = self.net(kept).chunk(2, dim=1)
        return torch.tanh(scale) * (1 - self.mask), shift * (1 - self.mask)

    def forward(self, x):
        kept = x * self.mask
        scale, shift = self.scale_and_shift(kept)
        return kept + (1 - self.mask) * (x * scale.exp() + shift), scale.sum(dim=1)

    def inverse(self, z):
        kept = z * self.mask
        scale, shift = self.scale_and_shift(kept)
        return kept + (1 - self.mask) * ((z - shift) * (-scale).exp())


class RealNVP(nn.Module):
    def __init__(self, layers=8):
        super().__init__()
        masks = [[1.0, 0.0], [0.0, 1.0]]
        self.layers = nn.ModuleList([Coupling(masks[i % 2]) for i in range(layers)])

    def log_prob(self, x):
        log_det = torch.zeros(len(x))
        for layer in self.layers:
            x, change = layer(x)
            log_det = log_det + change
        log_base = (-0.5 * x**2 - 0.5 * math.log(2 * math.pi)).sum(dim=1)
        return log_base + log_det

    def forward(self, x):
        return self.log_prob(x)

    @torch.no_grad()
    def sample(self, count):
        z = torch.randn(count, 2)
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        return z


flow = RealNVP()
print("parameters:", sum(p.numel() for p in flow.parameters()))


# %%
@torch.no_grad()
def chamfer(a, b):
    """Mean distance from points to the next point of the other set, both ways: small if the samples look like data."""
    distances = torch.cdist(a, b)
    return (distances.min(dim=1).values.mean() + distances.min(dim=0).values.mean()).item() / 2


@torch.no_grad()
def validate():
    flow.eval()
    nll = -flow(val_points).mean().item()
    return nll, chamfer(flow.sample(1000), val_points)


# %%
EPOCHS = 30
optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.92)

for epoch in range(EPOCHS):
    flow.train()
    seen, total = 0, 0.0
    for (points,) in loader:
        loss = -flow(points).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimizer.step()
        total += loss.item() * len(points)
        seen += len(points)
    scheduler.step()
    nll, distance = validate()
    print(f"epoch {epoch + 1:2d}: train NLL {total / seen:.3f}, validation NLL {nll:.3f}, sample distance {distance:.3f}")

# %%
samples = flow.sample(2000) * std + mean
print("mean position of samples:", samples.mean(dim=0).tolist(), "of data:", raw_val.mean(dim=0).tolist())
