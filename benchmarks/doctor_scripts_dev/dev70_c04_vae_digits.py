"""Bernoulli VAE for 8x8 digits; the measure is the importance-weighted NLL (nats) of held-out images."""
import copy
import math
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.distributions import Normal

args = SimpleNamespace(seed=1, zdim=10, hidden=160, batch=64, epochs=60, lr=2e-3, warmup=12, k=64, eval_every=10)


class Encoder(nn.Module):
    def __init__(self, hidden, zdim):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.mu = nn.Linear(hidden, zdim)
        self.logvar = nn.Linear(hidden, zdim)

    def forward(self, x):
        h = self.body(x)
        return self.mu(h), self.logvar(h)


class Decoder(nn.Module):
    def __init__(self, hidden, zdim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(zdim, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                                 nn.Linear(hidden, 64))

    def forward(self, z):
        return self.net(z)


def reparameterize(mu, logvar):
    return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)


def vae_terms(enc, dec, x):
    mu, logvar = enc(x)
    logits = dec(reparameterize(mu, logvar))
    rec = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / x.size(0)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / x.size(0)
    return rec, kl


def beta_at(epoch):
    return min(1.0, (epoch + 1) / args.warmup)


@torch.no_grad()
def negative_elbo(enc, dec, x, repeats=4):
    enc.eval()
    dec.eval()
    return sum(float(sum(vae_terms(enc, dec, x))) for _ in range(repeats)) / repeats


@torch.no_grad()
def importance_nll(enc, dec, x, k):
    enc.eval()
    dec.eval()
    mu, logvar = enc(x)
    q = Normal(mu, torch.exp(0.5 * logvar))
    weights = []
    for _ in range(k):
        z = q.sample()
        log_px = -F.binary_cross_entropy_with_logits(dec(z), x, reduction="none").sum(dim=1)
        log_pz = Normal(0.0, 1.0).log_prob(z).sum(dim=1)
        weights.append(log_px + log_pz - q.log_prob(z).sum(dim=1))
    return -(torch.logsumexp(torch.stack(weights), dim=0) - math.log(k)).mean().item()


def load():
    gen = torch.Generator().manual_seed(args.seed)
    intensity = torch.tensor(load_digits().data, dtype=torch.float32) / 16.0
    perm = torch.randperm(len(intensity), generator=gen)
    train, val, test = intensity[perm[:1297]], intensity[perm[1297:1497]], intensity[perm[1497:]]
    return train, torch.bernoulli(val, generator=gen), torch.bernoulli(test, generator=gen)


def run_epoch(enc, dec, opt, train, epoch):
    enc.train()
    dec.train()
    beta = beta_at(epoch)
    tot = 0.0
    n = 0
    for idx in torch.randperm(len(train)).split(args.batch):
        x = torch.bernoulli(train[idx])
        rec, kl = vae_terms(enc, dec, x)
        loss = rec + beta * kl
        opt.zero_grad()
        loss.backward()
        opt.step()
        tot += (rec + kl).item() * len(idx)
        n += len(idx)
    return tot / n


def main():
    torch.manual_seed(args.seed)
    train, val, test = load()

    pixel = train.mean(dim=0).clamp(1e-3, 1 - 1e-3)
    base = F.binary_cross_entropy(pixel.expand_as(test), test, reduction="none").sum(dim=1).mean().item()
    print(f"independent pixels: {base:.3f} nats on test")

    enc, dec = Encoder(args.hidden, args.zdim), Decoder(args.hidden, args.zdim)
    opt = torch.optim.Adam(list(enc.parameters()) + list(dec.parameters()), lr=args.lr)
    sched = torch.optim.lr_scheduler.MultiStepLR(opt, milestones=[38, 52], gamma=0.3)

    best, kept = float("inf"), None
    for epoch in range(args.epochs):
        tr = run_epoch(enc, dec, opt, train, epoch)
        sched.step()
        if (epoch + 1) % args.eval_every == 0:
            va = negative_elbo(enc, dec, val)
            print(f"epoch {epoch + 1:3d}  train -elbo {tr:.3f}  val -elbo {va:.3f}")
            if va < best:
                best, kept = va, copy.deepcopy((enc.state_dict(), dec.state_dict()))

    enc.load_state_dict(kept[0])
    dec.load_state_dict(kept[1])
    with torch.no_grad():
        _, kl = vae_terms(enc, dec, test)
    print(f"test -elbo {negative_elbo(enc, dec, test):.3f}  kl {kl.item():.3f}")
    print(f"test nll (k={args.k}) {importance_nll(enc, dec, test, args.k):.3f} nats")


if __name__ == "__main__":
    main()
