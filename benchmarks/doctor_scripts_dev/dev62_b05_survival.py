"""Discrete-time survival (logistic hazard) of a generated cohort, in plain functions on whole tensors."""

import math
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F

cfg = SimpleNamespace(
    n_train=1000,
    n_val=400,
    n_bins=10,
    hidden=(32, 32),
    batch_size=50,
    epochs=14,
    lr=0.03,
    momentum=0.9,
    weight_decay=1e-4,
    warmup=20,
    seed=5,
)


def simulate_cohort(n, rng):
    """age, systolic pressure, creatinine, income, bmi, smoker, stage, marker -> time in years, event seen or not."""
    z = torch.randn(n, 6, generator=rng)
    smoker = (torch.rand(n, generator=rng) < 0.4).float()
    stage = torch.randint(1, 5, (n,), generator=rng).float()
    x = torch.stack(
        [
            60 + 10 * z[:, 0],
            135 + 20 * z[:, 1],
            80 * torch.exp(0.3 * z[:, 2]),
            42_000 + 12_000 * z[:, 3],
            27 + 4 * z[:, 4],
            smoker,
            stage,
            z[:, 5],
        ],
        dim=1,
    )
    risk = 0.9 * z[:, 0] + 0.5 * z[:, 2] - 0.5 * z[:, 3] + 0.8 * smoker + 0.6 * (stage - 2.5) + 0.8 * smoker * z[:, 5]
    uniform = torch.rand(n, generator=rng).clamp(1e-6, 1 - 1e-6)
    death = 6.0 * (-uniform.log() * torch.exp(-risk)) ** (1 / 1.5)
    censoring = 0.5 + 14 * torch.rand(n, generator=rng)
    return x, torch.minimum(death, censoring), (death <= censoring).float()


def fit_scaler(x):
    mean, std = x.mean(dim=0), x.std(dim=0)
    return lambda x: (x - mean) / std


def make_cuts(durations, events, n_bins):
    """Inner edges of the bins: quantiles of the durations of seen events."""
    levels = torch.linspace(0, 1, n_bins + 1)[1:-1]
    return torch.quantile(durations[events == 1], levels)


def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def build_net(n_in, hidden, n_out):
    layers = []
    for width in hidden:
        layers += [nn.Linear(n_in, width), nn.Tanh()]
        n_in = width
    net = nn.Sequential(*layers, nn.Linear(n_in, n_out))
    net.apply(init_weights)
    return net


def nll_logistic_hazard(phi, bins, events):
    """Mean negative log-likelihood; phi are the logits of the hazards, (n, n_bins)."""
    log_hazard, log_passed = F.logsigmoid(phi), F.logsigmoid(-phi)
    earlier = (torch.arange(phi.shape[1]) < bins[:, None]).float()
    at = bins[:, None]
    loglik = (log_passed * earlier).sum(dim=1)
    loglik = loglik + events * log_hazard.gather(1, at)[:, 0] + (1 - events) * log_passed.gather(1, at)[:, 0]
    return -loglik.mean()


def concordance(survival_score, durations, events):
    """Harrell's C: of the pairs that can be compared, the share in which who dies first has the lower score."""
    comparable = (durations[:, None] < durations[None, :]) & (events[:, None] == 1)
    lower = (survival_score[:, None] < survival_score[None, :]).float()
    ties = (survival_score[:, None] == survival_score[None, :]).float()
    return ((lower + 0.5 * ties) * comparable).sum() / comparable.sum()


def lr_at(step, total):
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    return 0.5 * cfg.lr * (1 + math.cos(math.pi * (step - cfg.warmup) / (total - cfg.warmup)))


def batches(n, size, rng):
    perm = torch.randperm(n, generator=rng)
    for start in range(0, n, size):
        yield perm[start : start + size]


@torch.no_grad()
def evaluate(net, x, bins, durations, events):
    net.eval()
    phi = net(x)
    survival = torch.cumprod(1 - torch.sigmoid(phi), dim=1)
    c_index = concordance(survival.sum(dim=1), durations, events)
    return nll_logistic_hazard(phi, bins, events).item(), c_index.item()


def main():
    torch.manual_seed(cfg.seed)
    rng = torch.Generator().manual_seed(cfg.seed)
    x_train, t_train, e_train = simulate_cohort(cfg.n_train, rng)
    x_val, t_val, e_val = simulate_cohort(cfg.n_val, rng)

    scale = fit_scaler(x_train)
    x_train, x_val = scale(x_train), scale(x_val)
    cuts = make_cuts(t_train, e_train, cfg.n_bins)
    b_train, b_val = torch.bucketize(t_train, cuts), torch.bucketize(t_val, cuts)

    net = build_net(x_train.shape[1], cfg.hidden, cfg.n_bins)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=cfg.lr, momentum=cfg.momentum, nesterov=True, weight_decay=cfg.weight_decay
    )
    total = cfg.epochs * math.ceil(cfg.n_train / cfg.batch_size)
    step = 0
    for epoch in range(cfg.epochs):
        net.train()
        running = 0.0
        for idx in batches(cfg.n_train, cfg.batch_size, rng):
            for group in optimizer.param_groups:
                group["lr"] = lr_at(step, total)
            loss = nll_logistic_hazard(net(x_train[idx]), b_train[idx], e_train[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running += loss.item() * len(idx)
            step += 1
        val_loss, c_index = evaluate(net, x_val, b_val, t_val, e_val)
        print(f"epoch {epoch:2d}  train {running / cfg.n_train:.4f}  val {val_loss:.4f}  C-index {c_index:.3f}")


if __name__ == "__main__":
    main()
