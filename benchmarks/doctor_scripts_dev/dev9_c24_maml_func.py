"""MAML on sinusoids with torch.func: functional_call, grad and vmap; meta-test after a few inner steps."""
import math

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

torch.manual_seed(0)
INNER_LR, META_LR, TASKS, K = 0.03, 2e-3, 20, 10

net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
params = dict(net.named_parameters())
opt = torch.optim.Adam(params.values(), lr=META_LR)


def sample_tasks(n, gen=None):
    amp = 0.5 + 2.0 * torch.rand(n, 1, 1, generator=gen)
    phase = math.pi * torch.rand(n, 1, 1, generator=gen)
    x1, x2 = (torch.rand(n, K, 1, generator=gen) * 6 - 3 for _ in range(2))
    f = lambda x: amp * torch.sin(x + phase)
    return x1, f(x1), x2, f(x2)


def mse(p, x, y):
    return ((functional_call(net, p, (x,)) - y) ** 2).mean()


def adapt(p, x, y, steps):
    for _ in range(steps):
        g = grad(mse)(p, x, y)
        p = {n: p[n] - INNER_LR * g[n] for n in p}
    return p


def task_loss(x1, y1, x2, y2, steps=2):
    return mse(adapt(params, x1, y1, steps), x2, y2)


def meta_test(steps):
    tasks = sample_tasks(200, torch.Generator().manual_seed(9))
    frozen = {k: v.detach() for k, v in params.items()}
    one = lambda x1, y1, x2, y2: mse(adapt(frozen, x1, y1, steps), x2, y2)
    return vmap(one)(*tasks).mean().item()


print("start:", [round(meta_test(s), 3) for s in (0, 2, 5)])
for it in range(1, 1201):
    loss = vmap(task_loss)(*sample_tasks(TASKS)).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 200 == 0:
        print(f"[{it:4d}] meta loss {loss.item():.3f} | test after 0/2/5 steps:", [round(meta_test(s), 3) for s in (0, 2, 5)])
