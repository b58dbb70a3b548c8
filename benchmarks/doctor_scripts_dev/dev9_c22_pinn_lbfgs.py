"""PINN for u'' + u = 0 style problem (damped oscillator): Adam first, then L-BFGS with closure; derivatives by autograd.grad."""
import torch
import torch.nn as nn

torch.manual_seed(123)
d, w0 = 1.0, 6.0
mu, k = 2 * d, w0 ** 2


def exact_solution(t):
    w = (w0 ** 2 - d ** 2) ** 0.5
    phi = torch.atan(torch.tensor(-d / w))
    A = 1 / (2 * torch.cos(phi))
    return torch.exp(-d * t) * 2 * A * torch.cos(phi + w * t)


class FCN(nn.Module):
    def __init__(self, N_INPUT, N_OUTPUT, N_HIDDEN, N_LAYERS):
        super().__init__()
        activation = nn.Tanh
        self.fcs = nn.Sequential(*[nn.Linear(N_INPUT, N_HIDDEN), activation()])
        self.fch = nn.Sequential(*[nn.Sequential(*[nn.Linear(N_HIDDEN, N_HIDDEN), activation()]) for _ in range(N_LAYERS - 1)])
        self.fce = nn.Linear(N_HIDDEN, N_OUTPUT)

    def forward(self, x):
        return self.fce(self.fch(self.fcs(x)))


pinn = FCN(1, 1, 32, 3)
t_boundary = torch.tensor(0.).view(-1, 1).requires_grad_(True)
t_physics = torch.linspace(0, 1, 40).view(-1, 1).requires_grad_(True)
t_test = torch.linspace(0, 1, 300).view(-1, 1)
u_exact = exact_solution(t_test)


def losses():
    u = pinn(t_boundary)
    loss1 = (torch.squeeze(u) - 1) ** 2
    dudt = torch.autograd.grad(u, t_boundary, torch.ones_like(u), create_graph=True)[0]
    loss2 = (torch.squeeze(dudt) - 0) ** 2
    u = pinn(t_physics)
    dudt = torch.autograd.grad(u, t_physics, torch.ones_like(u), create_graph=True)[0]
    d2udt2 = torch.autograd.grad(dudt, t_physics, torch.ones_like(dudt), create_graph=True)[0]
    loss3 = torch.mean((d2udt2 + mu * dudt + k * u) ** 2)
    return loss1, loss2, loss3


lambda1, lambda2 = 1e-1, 1e-3


def total():
    l1, l2, l3 = losses()
    return l1 + lambda1 * l2 + lambda2 * l3


def error():
    with torch.no_grad():
        return ((pinn(t_test) - u_exact).norm() / u_exact.norm()).item()


optimiser = torch.optim.Adam(pinn.parameters(), lr=2e-3)
for i in range(1501):
    optimiser.zero_grad()
    loss = total()
    loss.backward()
    optimiser.step()
    if i % 250 == 0:
        print(f"adam {i}: loss {loss.item():.5f}, relative L2 error {error():.4f}")

lbfgs = torch.optim.LBFGS(pinn.parameters(), lr=1.0, max_iter=20, history_size=30, line_search_fn="strong_wolfe")


def closure():
    lbfgs.zero_grad()
    objective = total()
    objective.backward()
    return objective


for outer in range(15):
    value = lbfgs.step(closure)
    if outer % 5 == 4:
        print(f"lbfgs {outer}: loss {value.item():.3e}, relative L2 error {error():.5f}")
