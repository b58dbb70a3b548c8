"""A damped oscillator without data: the loss is the equation's residual; time grows, L-BFGS polishes."""
import math

import torch
from torch import nn

OMEGA, DAMPING, END = 5.0, 0.1, 2.0


def exact(t):
    fast = OMEGA * math.sqrt(1 - DAMPING**2)
    decay = torch.exp(-DAMPING * OMEGA * t)
    return decay * (torch.cos(fast * t) + DAMPING * OMEGA / fast * torch.sin(fast * t))


class Trial(nn.Module):
    """1 + t^2 N(t): begins at one and at rest whatever the network says."""

    def __init__(self, width=48):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
        nn.init.uniform_(self.layers[0].weight, -4, 4)
        nn.init.uniform_(self.layers[0].bias, -2, 2)

    def forward(self, t):
        return 1 + t**2 * self.layers(t - END / 2)


def residual(model, t):
    t = t.clone().requires_grad_(True)
    u = model(t)
    (velocity,) = torch.autograd.grad(u.sum(), t, create_graph=True)
    (acceleration,) = torch.autograd.grad(velocity.sum(), t, create_graph=True)
    return (acceleration + 2 * DAMPING * OMEGA * velocity + OMEGA**2 * u) / OMEGA**2


@torch.no_grad()
def relative_error(model):
    t = torch.linspace(0, END, 401).unsqueeze(1)
    truth = exact(t)
    return ((model(t) - truth).norm() / truth.norm()).item()


def adam_phase(model, steps=2400, points=128):
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-4)
    for step in range(steps):
        horizon = END * min(1.0, 0.3 + 1.4 * step / steps)  # from near the beginning to all of it
        t = horizon * torch.rand(points, 1)
        loss = residual(model, t).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if (step + 1) % 120 == 0:
            print(f"adam {step + 1:4d} horizon {horizon:.2f} residual {loss.item():.3e} relative error {relative_error(model):.4f}")


def lbfgs_phase(model, rounds=10):
    """The same points in all evaluations, as a line search needs them."""
    t = torch.linspace(0, END, 160).unsqueeze(1)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=20, history_size=30, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = residual(model, t).pow(2).mean()
        loss.backward()
        return loss

    for number in range(rounds):
        loss = optimizer.step(closure)
        print(f"l-bfgs {number} residual {loss.item():.3e} relative error {relative_error(model):.5f}")


if __name__ == "__main__":
    torch.manual_seed(19)
    torch.set_num_threads(1)
    model = Trial()
    adam_phase(model)
    lbfgs_phase(model)
