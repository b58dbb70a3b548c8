"""RealNVP (Dinh et al. 2017) on two moons: maximum likelihood with affine couplings; judged by held-out nats and by samples."""

# %%
import math

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import make_moons
from sklearn.neighbors import NearestNeighbors
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


# %%
class Coupling(nn.Module):
    """x1 stays, x2 becomes x2 * exp(s(x1)) + t(x1)."""

    def __init__(self, mask, hidden=64):
        super().__init__()
        self.register_buffer("mask", mask)
        make = lambda: nn.Sequential(nn.Linear(2, hidden), nn.LeakyReLU(), nn.Linear(hidden, hidden), nn.LeakyReLU(), nn.Linear(hidden, 2))
        self.s, self.t = make(), make()
        self.scale = nn.Parameter(torch.ones(2))
        for net in (self.s, self.t):  # begins as the identity
            nn.init.zeros_(net[-1].weight)
            nn.init.zeros_(net[-1].bias)

    def _nets(self, kept):
        return torch.tanh(self.s(kept)) * self.scale * (1 - self.mask), self.t(kept) * (1 - self.mask)

    def forward(self, x):  # data -> latent
        kept = x * self.mask
        s, t = self._nets(kept)
        return kept + (1 - self.mask) * (x * torch.exp(s) + t), s.sum(1)

    def inverse(self, z):
        kept = z * self.mask
        s, t = self._nets(kept)
        return kept + (1 - self.mask) * (z - t) * torch.exp(-s)


class RealNVP(nn.Module):
    def __init__(self, layers=8):
        super().__init__()
        masks = [torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])]
        self.couplings = nn.ModuleList([Coupling(masks[i % 2]) for i in range(layers)])

    def log_prob(self, x):
        log_det = torch.zeros(len(x))
        for coupling in self.couplings:
            x, ld = coupling(x)
            log_det = log_det + ld
        return -0.5 * (x**2).sum(1) - math.log(2 * math.pi) + log_det

    def forward(self, x):
        return self.log_prob(x)

    @torch.no_grad()
    def sample(self, n):
        z = torch.randn(n, 2)
        for coupling in reversed(self.couplings):
            z = coupling.inverse(z)
        return z


# %%
raw, _ = make_moons(6000, noise=0.06, random_state=0)
raw = torch.tensor(raw, dtype=torch.float32)[torch.randperm(6000)]
train_raw, val_raw = raw[:5000], raw[5000:]
mean, std = train_raw.mean(0), train_raw.std(0)
train_x, val_x = (train_raw - mean) / std, (val_raw - mean) / std
loader = DataLoader(TensorDataset(train_x), batch_size=128, shuffle=True, drop_last=True)

# for comparison: one Gaussian with the covariance of the training points
gauss = torch.distributions.MultivariateNormal(train_x.mean(0), torch.cov(train_x.T))
baseline = -gauss.log_prob(val_x).mean().item()
print(f"Gaussian: {baseline:.3f} nats")


def closeness(samples, reference):
    """The share of samples no farther from data than data is from data (99th percentile)."""
    tree = NearestNeighbors(n_neighbors=2).fit(reference.numpy())
    own = tree.kneighbors(reference.numpy())[0][:, 1]
    return float((tree.kneighbors(samples.numpy(), n_neighbors=1)[0][:, 0] <= np.quantile(own, 0.99)).mean())


# %%
flow = RealNVP()
optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
epochs = 40
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(loader))
for epoch in range(epochs):
    flow.train()
    total = 0.0
    for (x,) in loader:
        loss = -flow(x).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimizer.step()
        scheduler.step()
        total += loss.item()
    flow.eval()
    with torch.no_grad():
        val_nll = -flow.log_prob(val_x).mean().item()
    print(f"epoch {epoch:2d} train NLL {total / len(loader):.4f} val NLL {val_nll:.4f} samples near data {closeness(flow.sample(1000), train_x):.3f}")

# %%
with torch.no_grad():
    z = val_x
    for coupling in flow.couplings:
        z, _ = coupling(z)
    back = z
    for coupling in reversed(flow.couplings):
        back = coupling.inverse(back)
print(f"inverts to within {(back - val_x).abs().max():.1e}; val NLL {val_nll:.3f} against {baseline:.3f}")
