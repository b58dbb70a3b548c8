"""tiny resnet on digit glyphs

    python a01_digits_resnet.py --lr 0.1 --ep 20      # ~0.98
"""
import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

ap = argparse.ArgumentParser()
ap.add_argument("--lr", type=float, default=0.1)
ap.add_argument("--wd", type=float, default=5e-4)
ap.add_argument("--bs", type=int, default=64)
ap.add_argument("--ep", type=int, default=20)
ap.add_argument("--w", type=int, default=8)
ap.add_argument("--ls", type=float, default=0.05)
ap.add_argument("--seed", type=int, default=0)


def cb(i, o, s=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o))


class Block(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.a, self.b = cb(i, o, s), cb(o, o)
        self.skip = nn.Identity() if i == o and s == 1 else nn.Conv2d(i, o, 1, s, bias=False)

    def forward(self, x):
        return F.relu(self.b(F.relu(self.a(x))) + self.skip(x))


class Net(nn.Module):
    def __init__(self, w, n=10):
        super().__init__()
        self.stem = cb(1, w)
        self.blocks = nn.ModuleList([Block(w, w, 1), Block(w, 2 * w, 2), Block(2 * w, 4 * w, 2)])
        self.head = nn.Linear(4 * w, n)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for b in self.blocks:
            x = b(x)
        return self.head(x.mean((2, 3)))


def tf(mu, sd, aug):
    def f(x):
        x = x.float() / 255
        if aug:
            i, j = torch.randint(0, 3, (2,)).tolist()
            x = F.pad(x, (1, 1, 1, 1))[:, i : i + 16, j : j + 16]
        return (x - mu) / sd

    return f


@torch.no_grad()
def test(net, dl):
    net.eval()
    nll = ok = n = 0
    for x, y in dl:
        o = net(x)
        nll += F.cross_entropy(o, y, reduction="sum").item()
        ok += (o.argmax(1) == y).sum().item()
        n += len(y)
    return nll / n, ok / n


def main():
    a = ap.parse_args()
    torch.manual_seed(a.seed)

    tr, te = Digits(train=True, count=3200), Digits(train=False, count=600)
    px = tr.data.float() / 255
    mu, sd = px.mean().item(), px.std().item()
    tr.transform = tf(mu, sd, True)
    te.transform = tf(mu, sd, False)
    dl = DataLoader(tr, a.bs, shuffle=True, drop_last=True)
    tl = DataLoader(te, 256)

    net = Net(a.w)
    dec = [p for p in net.parameters() if p.ndim > 1]
    nod = [p for p in net.parameters() if p.ndim <= 1]
    opt = torch.optim.SGD(
        [{"params": dec, "weight_decay": a.wd}, {"params": nod, "weight_decay": 0.0}],
        lr=a.lr,
        momentum=0.9,
        nesterov=True,
    )
    T, warm = a.ep * len(dl), 50
    sch = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda t: min((t + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(t / T, 1.0))))
    )

    for e in range(a.ep):
        net.train()
        run = 0.0
        for x, y in dl:
            loss = F.cross_entropy(net(x), y, label_smoothing=a.ls)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sch.step()
            run += loss.item()
        nll, acc = test(net, tl)
        print(f"{e:02d} lr {sch.get_last_lr()[0]:.4f} tr {run / len(dl):.4f} te {nll:.4f} acc {acc:.4f}", flush=True)


if __name__ == "__main__":
    main()
