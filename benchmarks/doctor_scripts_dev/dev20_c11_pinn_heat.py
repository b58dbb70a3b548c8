"""A physics-informed network for the heat equation u_t = a u_xx on [0, 1] with cold ends; no measured data.

The exact solution for u(x, 0) = sin(pi x) is exp(-a pi^2 t) sin(pi x).
"""

import math

import torch
import torch.nn as nn

torch.manual_seed(1234)

A = 0.2
STEPS_PER_EPOCH = 200
EPOCHS = 15
N_INSIDE, N_START, N_ENDS = 256, 64, 64


class MLP(nn.Module):
    def __init__(self, sizes=(2, 48, 48, 48, 1)):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes[:-1], sizes[1:]))
        for layer in self.layers:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x, t):
        h = torch.cat([2 * x - 1, 2 * t - 1], dim=1)
        for layer in self.layers[:-1]:
            h = torch.tanh(layer(h))
        return self.layers[-1](h)


def derivative(y, x):
    return torch.autograd.grad(y, x, grad_outputs=torch.ones_like(y), create_graph=True)[0]


def residual(model, x, t):
    x.requires_grad_(True)
    t.requires_grad_(True)
    u = model(x, t)
    u_t = derivative(u, t)
    u_xx = derivative(derivative(u, x), x)
    return u_t - A * u_xx


def exact(x, t):
    return torch.exp(-A * math.pi**2 * t) * torch.sin(math.pi * x)


def losses(model):
    """New random points every time."""
    inside = residual(model, torch.rand(N_INSIDE, 1), torch.rand(N_INSIDE, 1))

    x0 = torch.rand(N_START, 1)
    start = model(x0, torch.zeros_like(x0)) - torch.sin(math.pi * x0)

    tb = torch.rand(N_ENDS, 1)
    left, right = model(torch.zeros_like(tb), tb), model(torch.ones_like(tb), tb)

    return inside.square().mean(), start.square().mean(), left.square().mean() + right.square().mean()


grid_x, grid_t = torch.meshgrid(torch.linspace(0, 1, 41), torch.linspace(0, 1, 41), indexing="ij")
grid_x, grid_t = grid_x.reshape(-1, 1), grid_t.reshape(-1, 1)
truth = exact(grid_x, grid_t)


@torch.no_grad()
def relative_error(model):
    return ((model(grid_x, grid_t) - truth).norm() / truth.norm()).item()


model = MLP()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)
print(f"relative error before training: {relative_error(model):.4f}")

for epoch in range(1, EPOCHS + 1):
    sums = torch.zeros(3)
    for step in range(STEPS_PER_EPOCH):
        optimizer.zero_grad()
        pde, start, ends = losses(model)
        loss = pde + 10 * start + 10 * ends
        loss.backward()
        optimizer.step()
        sums += torch.stack([pde, start, ends]).detach()
    scheduler.step()
    pde, start, ends = (sums / STEPS_PER_EPOCH).tolist()
    print(
        f"epoch {epoch:2d}: pde {pde:.2e}, start {start:.2e}, ends {ends:.2e}, "
        f"relative error {relative_error(model):.4f}"
    )

with torch.no_grad():
    for t in (0.0, 0.25, 0.5, 1.0):
        point = torch.tensor([[0.5]]), torch.tensor([[t]])
        print(f"u(0.5, {t}) = {model(*point).item():+.4f}, exact {exact(*point).item():+.4f}")
