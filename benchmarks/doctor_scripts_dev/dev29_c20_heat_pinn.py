"""Physics-informed network for u_t = a u_xx on the unit interval, u(x, 0) = sin(pi x), u = 0 at both ends.

There are no training data: Adam on fresh points first, then L-BFGS on a fixed set of points.
The exact solution exp(-a pi^2 t) sin(pi x) is used for measuring only.
"""
import math

import torch
import torch.nn as nn

A = 0.1
torch.manual_seed(0)


class Field(nn.Module):
    def __init__(self, width=32, depth=3):
        super().__init__()
        sizes = [2] + [width] * depth
        self.hidden = nn.ModuleList([nn.Linear(i, o) for i, o in zip(sizes, sizes[1:])])
        self.out = nn.Linear(width, 1)
        for layer in [*self.hidden, self.out]:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x, t):
        h = torch.cat([2 * x - 1, 2 * t - 1], dim=1)
        for layer in self.hidden:
            h = torch.tanh(layer(h))
        return self.out(h)


def derivative(u, v):
    return torch.autograd.grad(u, v, torch.ones_like(u), create_graph=True)[0]


def sample(n_inside=192, n_edge=48):
    return {
        "x": torch.rand(n_inside, 1), "t": torch.rand(n_inside, 1),
        "x0": torch.rand(n_edge, 1), "tb": torch.rand(n_edge, 1),
        "xb": torch.randint(0, 2, (n_edge, 1)).float(),
    }


def physics_loss(net, points):
    x = points["x"].clone().requires_grad_(True)
    t = points["t"].clone().requires_grad_(True)
    u = net(x, t)
    residual = derivative(u, t) - A * derivative(derivative(u, x), x)
    start = net(points["x0"], torch.zeros_like(points["x0"])) - torch.sin(math.pi * points["x0"])
    edge = net(points["xb"], points["tb"])
    return residual.pow(2).mean() + 10 * start.pow(2).mean() + 10 * edge.pow(2).mean()


@torch.no_grad()
def relative_error(net, n=41):
    x, t = torch.meshgrid(torch.linspace(0, 1, n), torch.linspace(0, 1, n), indexing="ij")
    x, t = x.reshape(-1, 1), t.reshape(-1, 1)
    exact = torch.exp(-A * math.pi**2 * t) * torch.sin(math.pi * x)
    return ((net(x, t) - exact).norm() / exact.norm()).item()


net = Field()
print(f"untrained: relative L2 error {relative_error(net):.4f}")

adam = torch.optim.Adam(net.parameters(), lr=3e-3)
decay = torch.optim.lr_scheduler.ExponentialLR(adam, gamma=0.85)
for epoch in range(15):
    total = 0.0
    for _ in range(100):
        adam.zero_grad()
        loss = physics_loss(net, sample())
        loss.backward()
        adam.step()
        total += loss.item()
    decay.step()
    print(f"adam  {epoch + 1:2d}: loss {total / 100:.6f}, relative L2 error {relative_error(net):.5f}")

lbfgs = torch.optim.LBFGS(net.parameters(), lr=1.0, max_iter=8, history_size=50, line_search_fn="strong_wolfe")
fixed = sample(256, 64)


def closure():
    lbfgs.zero_grad()
    loss = physics_loss(net, fixed)
    loss.backward()
    return loss


for round_ in range(15):
    loss = lbfgs.step(closure)
    print(f"lbfgs {round_ + 1:2d}: loss {loss.item():.7f}, relative L2 error {relative_error(net):.5f}")
