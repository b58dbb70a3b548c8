# %% [markdown]
# # A physics-informed network for the damped oscillator
# $u'' + 2 d u' + w^2 u = 0$, $u(0) = 1$, $u'(0) = 0$. No solution is shown to the network.

# %%
import math

import torch
import torch.nn as nn

torch.manual_seed(123)
d, w = 1.0, 6.0


def exact(t):
    omega = math.sqrt(w**2 - d**2)
    return torch.exp(-d * t) * (torch.cos(omega * t) + d / omega * torch.sin(omega * t))


# %%
class FCN(nn.Module):
    """Fully connected network of time."""

    def __init__(self, n_hidden=32, n_layers=3):
        super().__init__()
        layers = [nn.Linear(1, n_hidden), nn.Tanh()]
        for _ in range(n_layers - 1):
            layers += [nn.Linear(n_hidden, n_hidden), nn.Tanh()]
        layers.append(nn.Linear(n_hidden, 1))
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, t):
        return self.layers(2 * t - 1)


def derivative(y, t):
    return torch.autograd.grad(y, t, torch.ones_like(y), create_graph=True)[0]


pinn = FCN()
t_initial = torch.zeros(1, 1, requires_grad=True)


def collocation(n=80):
    """Points of the unit interval, one at random in each of n equal parts."""
    return ((torch.arange(n).view(-1, 1) + torch.rand(n, 1)) / n).requires_grad_(True)


def initial_loss():
    u = pinn(t_initial)
    return (u - 1).pow(2).squeeze() + (derivative(u, t_initial) / w).pow(2).squeeze()


def physics_loss(t):
    u = pinn(t)
    du = derivative(u, t)
    residual = derivative(du, t) + 2 * d * du + w**2 * u
    return (residual / w**2).pow(2).mean()


def total_loss(t):
    return initial_loss() + 0.3 * physics_loss(t)


@torch.no_grad()
def relative_error():
    t_test = torch.linspace(0, 1, 301).view(-1, 1)
    return ((pinn(t_test) - exact(t_test)).norm() / exact(t_test).norm()).item()


# %% First Adam, with new points at each step ...
optimiser = torch.optim.Adam(pinn.parameters(), lr=4e-3)
schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, gamma=0.1 ** (1 / 1500))
for i in range(1500):
    optimiser.zero_grad()
    loss = total_loss(collocation())
    loss.backward()
    optimiser.step()
    schedule.step()
    if i % 300 == 0:
        print(f"adam {i:4d}  loss {loss.item():.2e}  relative error {relative_error():.4f}")

# %% ... then L-BFGS, which wants the same function each time.
points = collocation(120)
lbfgs = torch.optim.LBFGS(pinn.parameters(), lr=1.0, max_iter=20, history_size=30, line_search_fn="strong_wolfe")


def closure():
    lbfgs.zero_grad()
    value = total_loss(points)
    value.backward()
    return value


for i in range(15):
    value = lbfgs.step(closure)
    if i % 5 == 4:
        print(f"lbfgs {i + 1:3d}  loss {value.item():.2e}  relative error {relative_error():.4f}")

# %%
for moment in (0.0, 0.25, 0.5, 0.75, 1.0):
    t = torch.tensor([[moment]])
    print(f"u({moment:.2f}) = {pinn(t).item():+.4f}   exact {exact(t).item():+.4f}")
