"""Pretrain on shapes, then ArcFace: backbone frozen for two epochs, unfrozen with discriminative rates; checkpointed blocks; P-K batches; retrieval."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Sampler, TensorDataset

from toydata import Digits


class PKSampler(Sampler):
    def __init__(self, labels, p=8, k=5, batches=28):
        self.idx = {c: [i for i, l in enumerate(labels) if l == c] for c in set(labels)}
        self.p, self.k, self.batches = p, k, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            yield [i for c in random.sample(sorted(self.idx), self.p) for i in random.sample(self.idx[c], self.k)]


class Backbone(nn.Module):
    def __init__(self, out=32):
        super().__init__()
        mk = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.GroupNorm(4, o), nn.PReLU(o))
        self.stages = nn.ModuleList([mk(1, 16), mk(16, 32), mk(32, 64)])
        self.emb = nn.Linear(64 * 4, out)

    def forward(self, x):
        for i, s in enumerate(self.stages):
            x = checkpoint(s, x, use_reentrant=False) if self.training and i else s(x)
        return self.emb(x.flatten(1))


class ArcMargin(nn.Module):
    def __init__(self, dim, n, s=16.0, m=0.2):
        super().__init__()
        self.W, self.s, self.m = nn.Parameter(torch.empty(n, dim)), s, m
        nn.init.xavier_uniform_(self.W)

    def forward(self, e, y):
        cos = F.linear(F.normalize(e), F.normalize(self.W)).clamp(-1 + 1e-6, 1 - 1e-6)
        hit = F.one_hot(y, cos.size(1)).bool()
        return self.s * torch.where(hit, torch.cos(torch.acos(cos) + self.m), cos)


def retrieval(net, gallery, query):
    net.eval()
    with torch.no_grad():
        (gx, gy), (qx, qy) = gallery, query
        sim = F.normalize(net(qx)) @ F.normalize(net(gx)).T
        return (gy[sim.argmax(1)] == qy).float().mean().item()


def tensors(train, n):
    d = Digits(train, count=n)
    return (d.data.float() - 43) / 76, d.targets


random.seed(0)
torch.manual_seed(0)
(X, Y), query = tensors(True, 1000), tensors(False, 250)
net = Backbone()
# 1. pretext: predict which of four rotations
rot = nn.Linear(32, 4)
opt = torch.optim.Adam([*net.parameters(), *rot.parameters()], lr=2e-3)
for ep in range(3):
    net.train()
    ok = 0
    for idx in torch.randperm(len(X)).split(50):
        r = torch.randint(0, 4, (len(idx),))
        xb = torch.stack([torch.rot90(x, int(q), (1, 2)) for x, q in zip(X[idx], r)])
        out = rot(net(xb))
        loss = F.cross_entropy(out, r)
        opt.zero_grad(), loss.backward(), opt.step()
        ok += (out.argmax(1) == r).sum().item()
    print(f"pretext {ep}: rotation acc {ok / len(X):.3f} | retrieval@1 {retrieval(net, (X, Y), query):.3f}")

# 2. metric learning
net.emb = nn.Linear(64 * 4, 32)
arc = ArcMargin(32, 10)
loader = DataLoader(TensorDataset(X, Y), batch_sampler=PKSampler(Y.tolist()))
for p in net.stages.parameters():
    p.requires_grad_(False)
optimizer = torch.optim.AdamW([{"params": net.emb.parameters()}, {"params": arc.parameters(), "weight_decay": 0.0}], lr=3e-3)
for epoch in range(8):
    if epoch == 2:
        net.stages.requires_grad_(True)
        optimizer.add_param_group({"params": net.stages.parameters(), "lr": 1e-3})
        print("unfrozen", [g["lr"] for g in optimizer.param_groups])
    net.train()
    total = 0
    for x, y in loader:
        emb = net(x)
        ap = torch.cdist(F.normalize(emb), F.normalize(emb))
        same = y[:, None] == y[None]
        triplet = F.relu(ap.masked_fill(~same, 0).amax(1) - ap.masked_fill(same, 9).amin(1) + 0.3).mean()
        loss = F.cross_entropy(arc(emb, y), y) + 0.5 * triplet
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}: loss {total / len(loader):.3f} retrieval@1 {retrieval(net, (X, Y), query):.3f}")
