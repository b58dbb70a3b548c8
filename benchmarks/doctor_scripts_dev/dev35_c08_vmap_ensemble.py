# %% [markdown]
# # House prices with error bars
# A deep ensemble (Lakshminarayanan et al., 2017): five small networks that predict a mean and a variance each,
# trained side by side with `torch.func.vmap`. Every member keeps the weights of its own best epoch.

# %%
import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from toydata import houses

torch.manual_seed(0)
MEMBERS = 5
EPOCHS = 50
BATCH = 70

# %% Data
X, price = houses(2000, seed=4)
order = torch.randperm(len(X))
idx_train, idx_valid, idx_test = order[:1400], order[1400:1700], order[1700:]
center, spread = price[idx_train].mean(), price[idx_train].std()
y = (price - center) / spread


# %% Members
def make_member():
    return nn.Sequential(
        nn.Linear(8, 64), nn.SiLU(),
        nn.Linear(64, 64), nn.SiLU(),
        nn.Linear(64, 2),
    )


members = [make_member() for _ in range(MEMBERS)]
params, buffers = stack_module_state(members)
skeleton = copy.deepcopy(members[0]).to("meta")


def run(p, b, x):
    mean, raw = functional_call(skeleton, (p, b), (x,)).unbind(-1)
    return mean, F.softplus(raw) + 1e-3


run_apart = vmap(run, in_dims=(0, 0, 0))  # every member has a batch of its own
run_together = vmap(run, in_dims=(0, 0, None))  # all members see the same


def gaussian_nll(mean, variance, target):
    return 0.5 * (variance.log() + (target - mean) ** 2 / variance)


# %% Training
optimizer = torch.optim.AdamW(params.values(), lr=3e-3, weight_decay=1e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

best_nll = torch.full((MEMBERS,), float("inf"))
best_epoch = torch.zeros(MEMBERS, dtype=torch.long)
best_params = {name: p.detach().clone() for name, p in params.items()}

for epoch in range(EPOCHS):
    orders = torch.stack([idx_train[torch.randperm(len(idx_train))] for _ in range(MEMBERS)])
    total = torch.zeros(MEMBERS)
    for chunk in orders.split(BATCH, dim=1):
        mean, variance = run_apart(params, buffers, X[chunk])
        nll = gaussian_nll(mean, variance, y[chunk])
        loss = nll.mean(dim=1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += nll.detach().sum(dim=1)
    schedule.step()

    with torch.no_grad():
        mean, variance = run_together(params, buffers, X[idx_valid])
        valid_nll = gaussian_nll(mean, variance, y[idx_valid]).mean(dim=1)
    better = valid_nll < best_nll
    best_nll = torch.where(better, valid_nll, best_nll)
    best_epoch[better] = epoch
    for name, p in params.items():
        best_params[name][better] = p.detach()[better]
    if epoch % 5 == 4:
        train_nll = (total / len(idx_train)).mean().item()
        print(f"epoch {epoch + 1:2d}  train NLL {train_nll:.3f}  valid NLL {valid_nll.mean().item():.3f}")

print("best epochs of the members:", best_epoch.tolist())

# %% The mixture of the members on test data, in thousands
with torch.no_grad():
    mean, variance = run_together(best_params, buffers, X[idx_test])
mixture_mean = mean.mean(dim=0)
mixture_variance = (variance + mean**2).mean(dim=0) - mixture_mean**2
error = (mixture_mean - y[idx_test]) * spread
deviation = mixture_variance.sqrt() * spread
r2 = 1 - (error**2).sum() / ((price[idx_test] - price[idx_test].mean()) ** 2).sum()
covered = (error.abs() < 1.645 * deviation).float().mean()
single = ((mean - y[idx_test]) * spread).pow(2).mean(dim=1).sqrt()

print(f"RMSE {error.pow(2).mean().sqrt().item():.2f}, of single members {single.mean().item():.2f}")
print(f"R² {r2.item():.3f}, inside the 90 % interval {100 * covered.item():.1f} %")
