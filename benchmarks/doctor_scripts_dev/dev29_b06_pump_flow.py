# %% [markdown]
# # Anomalies of a pump, by a normalizing flow
# A RealNVP learns how probable eight sensor values are together, from healthy hours only.

# %%
import math

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(11)

# %% data: three hidden causes (load, weather, wear) drive eight sensors, each in its own unit


def healthy_hours(count, seed):
    generator = torch.Generator().manual_seed(seed)
    load, wear = torch.rand(2, count, generator=generator)
    weather, *noise = torch.randn(9, count, generator=generator)
    rpm = 1450 + 300 * load + 12 * noise[0]
    flow = 20 + 60 * load**1.5 * (1 - 0.2 * wear) + 1.6 * noise[1]
    pressure = 2.0e5 + 9e4 * load**2 - 1.5e4 * wear * load + 3e3 * noise[2]
    current = 6 + 8 * load + 2 * load**2 * wear + 0.3 * noise[3]
    temp_in = 288 + 5 * weather + 0.3 * noise[4]
    temp_out = temp_in + 12 * load * (1 + 0.4 * wear) + 0.6 * noise[5]
    vibration = 1e-3 * (2 + 3 * load * wear + 1.5 * torch.sin(6 * load) + 0.2 * noise[6])
    sound = 62 + 6 * torch.sin(3 * load) + 4 * wear + 0.6 * noise[7]
    return torch.stack([rpm, flow, pressure, current, temp_in, temp_out, vibration, sound], dim=1)


def broken_hours(count, seed):
    """Each value is one that occurs, but two sensors show what belongs to another hour."""
    rows, others = healthy_hours(count, seed), healthy_hours(count, seed + 1)
    generator = torch.Generator().manual_seed(seed)
    picks = torch.rand(rows.shape, generator=generator).argsort(dim=1)[:, :2]
    return rows.scatter(1, picks, others.gather(1, picks))


train, valid, broken = healthy_hours(6000, seed=0), healthy_hours(1000, seed=1), broken_hours(1000, seed=2)
mean, std = train.mean(dim=0), train.std(dim=0)
train, valid, broken = [(part - mean) / std for part in (train, valid, broken)]

# %% the flow


class Coupling(nn.Module):
    def __init__(self, dim, hidden, parity):
        super().__init__()
        self.register_buffer("mask", (torch.arange(dim) % 2 == parity).float())
        self.net = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * dim)
        )
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        shift, log_scale = self.net(x * self.mask).chunk(2, dim=1)
        log_scale = 2 * torch.tanh(log_scale / 2) * (1 - self.mask)
        return x * torch.exp(log_scale) + shift * (1 - self.mask), log_scale.sum(dim=1)


class Flow(nn.Module):
    def __init__(self, dim, depth=6, hidden=64):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(dim))
        self.log_std = nn.Parameter(torch.zeros(dim))
        self.couplings = nn.ModuleList([Coupling(dim, hidden, i % 2) for i in range(depth)])

    def log_prob(self, x):
        volume = torch.zeros(len(x))
        for coupling in self.couplings:
            x, log_det = coupling(x)
            volume = volume + log_det
        z = (x - self.loc) * torch.exp(-self.log_std)
        base = (-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(dim=1)
        return base + volume


# %% training and evaluation as closures over what they need


def make_epoch(flow, optimizer, data, batch_size):
    def epoch():
        flow.train()
        losses = []
        for index in torch.randperm(len(data)).split(batch_size):
            loss = -flow.log_prob(data[index]).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
            optimizer.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)

    return epoch


def make_evaluation(flow, known, healthy, broken):
    @torch.no_grad()
    def surprise(rows):
        return -flow.log_prob(rows)

    def evaluation():
        flow.eval()
        normal, strange = surprise(healthy), surprise(broken)
        limit = surprise(known).quantile(0.95)  # one false alarm in twenty hours
        area = (strange[:, None] > normal[None, :]).float().mean()
        return normal.mean(), area, (strange > limit).float().mean(), (normal > limit).float().mean()

    return evaluation


# %%
flow = Flow(train.shape[1])
optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
run_epoch = make_epoch(flow, optimizer, train, batch_size=128)
evaluation = make_evaluation(flow, train[:1000], valid, broken)

for number in range(1, 51):
    train_loss = run_epoch()
    nll, area, found, false_alarms = (value.item() for value in evaluation())
    print(
        f"epoch {number:2d} | train loss {train_loss:.3f} | valid nll {nll:.3f} | roc area {area:.3f} "
        f"| found {found:.3f} | false alarms {false_alarms:.3f}",
        flush=True,
    )
