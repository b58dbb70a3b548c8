"""Physics-informed network for u_t = k u_xx, u(x, 0) = sin(pi x), u = 0 at both ends: Adam first, then L-BFGS."""

import math

import torch
from torch import nn

torch.manual_seed(0)

K = 0.2


def exact(x, t):
    return torch.exp(-K * math.pi**2 * t) * torch.sin(math.pi * x)


class Field(nn.Module):
    def __init__(self, width=32, depth=3):
        super().__init__()
        sizes = [2] + [width] * depth
        layers = []
        for a, b in zip(sizes[:-1], sizes[1:]):
            layers += [nn.Linear(a, b), nn.Tanh()]
        layers.append(nn.Linear(width, 1))
        self.net = nn.Sequential(*layers)
        for layer in self.net:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x, t):
        return self.net(torch.cat([2 * x - 1, 2 * t - 1], dim=1))


def gradient(y, x):
    return torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True)[0]


def residual(field, x, t):
    x, t = x.detach().requires_grad_(True), t.detach().requires_grad_(True)
    u = field(x, t)
    return gradient(u, t) - K * gradient(gradient(u, x), x)


def sample(inner=256, border=64):
    edge = torch.randint(0, 2, (border, 1)).float()
    return {
        "inner": (torch.rand(inner, 1), torch.rand(inner, 1)),
        "start": (torch.rand(border, 1), torch.zeros(border, 1)),
        "edge": (edge, torch.rand(border, 1)),
    }


def pinn_loss(field, points):
    physics = residual(field, *points["inner"]).square().mean()
    x, t = points["start"]
    start = (field(x, t) - torch.sin(math.pi * x)).square().mean()
    edge = field(*points["edge"]).square().mean()
    return physics + 10 * start + 10 * edge


grid_x, grid_t = torch.meshgrid(torch.linspace(0, 1, 41), torch.linspace(0, 1, 41), indexing="ij")
grid_x, grid_t = grid_x.reshape(-1, 1), grid_t.reshape(-1, 1)


@torch.no_grad()
def relative_error(field):
    truth = exact(grid_x, grid_t)
    return ((field(grid_x, grid_t) - truth).norm() / truth.norm()).item()


field = Field()
optimizer = torch.optim.Adam(field.parameters(), lr=4e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.999)

for step in range(1, 2001):
    loss = pinn_loss(field, sample())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 200 == 0:
        print(f"adam {step:5d}  loss {loss.item():.2e}  relative error {relative_error(field):.4f}")

points = sample(inner=800, border=160)
lbfgs = torch.optim.LBFGS(
    field.parameters(), lr=1.0, max_iter=25, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-10
)


def closure():
    lbfgs.zero_grad()
    loss = pinn_loss(field, points)
    loss.backward()
    return loss


for turn in range(8):
    loss = lbfgs.step(closure)
    print(f"lbfgs {turn}  loss {loss.item():.2e}  relative error {relative_error(field):.5f}")
