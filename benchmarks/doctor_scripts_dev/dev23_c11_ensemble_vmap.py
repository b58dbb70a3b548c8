"""House prices with an error bar: a bootstrapped ensemble trained in one go by torch.func."""
import copy

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from toydata import houses

MEMBERS, EPOCHS, BATCH = 6, 50, 40

torch.manual_seed(0)
features, price = houses(3000, seed=0)
order = torch.randperm(len(features))
train, valid, test = order[:2000], order[2000:2500], order[2500:]

# scales come from the training part alone
x_mean, x_std = features[train].mean(0), features[train].std(0)
y_mean, y_std = price[train].mean(), price[train].std()
X = (features - x_mean) / x_std
Y = (price - y_mean) / y_std


def build():
    return nn.Sequential(nn.Linear(8, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2))


models = [build() for _ in range(MEMBERS)]
params, buffers = stack_module_state(models)
skeleton = copy.deepcopy(models[0]).to("meta")


def predict_one(p, b, x):
    mean, raw = functional_call(skeleton, (p, b), (x,)).unbind(-1)
    return mean, nn.functional.softplus(raw) + 1e-3  # mean, variance


predict_own = vmap(predict_one, in_dims=(0, 0, 0))  # each member its own batch
predict_all = vmap(predict_one, in_dims=(0, 0, None))  # all members the same inputs

optimizer = torch.optim.AdamW(list(params.values()), lr=3e-3, weight_decay=1e-2)
steps_per_epoch = len(train) // BATCH
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps_per_epoch, eta_min=1e-4)

# bootstrap: each member has its own sample of the training part, with repetitions
bags = torch.stack([train[torch.randint(len(train), (len(train),))] for _ in range(MEMBERS)])


def mixture(index):
    """Mean and variance of the mixture of all members, in thousands."""
    with torch.no_grad():
        means, variances = predict_all(params, buffers, X[index])
    mean = means.mean(0)
    variance = (variances + means**2).mean(0) - mean**2
    return mean * y_std + y_mean, variance.clamp(min=1e-8) * y_std**2


def report(index):
    mean, variance = mixture(index)
    truth = price[index]
    error = mean - truth
    r2 = 1 - error.pow(2).sum() / (truth - truth.mean()).pow(2).sum()
    covered = (error.abs() < 1.645 * variance.sqrt()).float().mean()
    return error.pow(2).mean().sqrt().item(), r2.item(), covered.item()


best = (float("inf"), None)
for epoch in range(1, EPOCHS + 1):
    shuffled = torch.stack([bag[torch.randperm(len(bag))] for bag in bags])
    total = 0.0
    for i in range(steps_per_epoch):
        index = shuffled[:, i * BATCH : (i + 1) * BATCH]
        means, variances = predict_own(params, buffers, X[index])
        nll = nn.functional.gaussian_nll_loss(means, Y[index], variances, reduction="none")
        # beta-NLL (Seitzer et al.): uncertain samples keep half of their weight
        loss = (nll * variances.detach().sqrt()).mean(1).sum()  # a sum: no member takes from another
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() / MEMBERS
    rmse, r2, covered = report(valid)
    if rmse < best[0]:
        best = (rmse, {name: p.detach().clone() for name, p in params.items()})
    print(f"epoch {epoch:2d}: loss {total / steps_per_epoch:7.4f} | valid rmse {rmse:6.2f} R2 {r2:.4f} "
          f"in the 90% band {covered:.3f}")

with torch.no_grad():
    for name, p in params.items():
        p.copy_(best[1][name])
rmse, r2, covered = report(test)
print(f"test with the best epoch: rmse {rmse:.2f} R2 {r2:.4f} in the 90% band {covered:.3f}")
