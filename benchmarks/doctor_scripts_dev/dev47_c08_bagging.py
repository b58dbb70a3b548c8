# %% [markdown]
# # House prices with an uncertainty
# Deep ensemble on bootstrap samples: each member gives a mean and a variance, and has an optimizer of its own.

# %%
import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import houses

torch.manual_seed(11)

MEMBERS = 4
EPOCHS = 36
MEAN_ONLY = 10  # epochs in which the variance is left alone
BATCH = 64

# %%
X, price = houses(1600, seed=4)
X_train, X_test = X[:1200], X[1200:]
price_train, price_test = price[:1200], price[1200:]

center, scale = price_train.mean(), price_train.std()
y_train = (price_train - center) / scale
n = len(y_train)

# %%
def make_member():
    return nn.Sequential(
        nn.Linear(8, 64), nn.SiLU(),
        nn.Linear(64, 64), nn.SiLU(),
        nn.Linear(64, 2),
    )


def predict(net, x):
    mean, raw = net(x).unbind(dim=1)
    return mean, F.softplus(raw) + 1e-3


members = [make_member() for _ in range(MEMBERS)]
optimizers = [torch.optim.Adam(net.parameters(), lr=4e-3, weight_decay=1e-5) for net in members]
# drawn with replacement: about a third of the houses are missing, others are there twice or more
bags = [torch.randint(0, n, (n,)) for _ in range(MEMBERS)]

# %%
history = []
for epoch in range(EPOCHS):
    for group_optimizer in optimizers:
        # a tenth of the rate for the last third
        group_optimizer.param_groups[0]["lr"] = 4e-3 if epoch < EPOCHS * 2 // 3 else 4e-4
    row = {"epoch": epoch}
    for m, (net, opt, bag) in enumerate(zip(members, optimizers, bags)):
        net.train()
        total = 0.0
        shuffled = bag[torch.randperm(n)]
        for rows in shuffled.split(BATCH):
            xb, yb = X_train[rows], y_train[rows]
            mean, var = predict(net, xb)
            if epoch < MEAN_ONLY:
                loss = F.mse_loss(mean, yb)
            else:
                # below zero as soon as the density is above one
                loss = F.gaussian_nll_loss(mean, yb, var)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.detach() * len(rows)
        row[f"net{m}"] = float(total) / n
    history.append(row)

print(pd.DataFrame(history).set_index("epoch").iloc[::5].round(3).to_string())

# %% Out of bag: each house is judged by the members that never saw it
with torch.no_grad():
    for net in members:
        net.eval()
    votes, heard = torch.zeros(n), torch.zeros(n)
    for net, bag in zip(members, bags):
        unseen = torch.ones(n, dtype=torch.bool)
        unseen[bag] = False
        votes[unseen] += predict(net, X_train[unseen])[0]
        heard[unseen] += 1
    judged = heard > 0
    oob = votes[judged] / heard[judged] * scale + center
    oob_rmse = (oob - price_train[judged]).square().mean().sqrt()

# %% Test: the mixture of all
with torch.no_grad():
    means, variances = zip(*(predict(net, X_test) for net in members))
    means, variances = torch.stack(means), torch.stack(variances)
    mixture_mean = means.mean(0)
    mixture_var = (variances + means.square()).mean(0) - mixture_mean.square()
    expected = mixture_mean * scale + center
    deviation = mixture_var.sqrt() * scale

error = (expected - price_test).numpy()
inside = np.abs(error) < 1.645 * deviation.numpy()
r2 = 1 - np.square(error).sum() / np.square((price_test - price_test.mean()).numpy()).sum()
print(f"out-of-bag RMSE {float(oob_rmse):.1f} thousand ({int(judged.sum())} houses)")
print(f"test RMSE {np.sqrt(np.square(error).mean()):.1f} thousand, R2 {r2:.3f}")
print(f"inside the 90 % interval: {inside.mean():.1%}")
