"""tiny char GPT on grammar text.  python b01_char_gpt.py --steps 800"""
import argparse
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import text


class Attn(nn.Module):
    def __init__(s, d, h, p):
        super().__init__()
        s.h, s.p = h, p
        s.qkv, s.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)

    def forward(s, x):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, s.h, C // s.h).transpose(1, 2) for t in s.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=s.p if s.training else 0.0, is_causal=True)
        return s.out(y.transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(s, d, h, p):
        super().__init__()
        s.n1, s.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        s.att = Attn(d, h, p)
        s.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d), nn.Dropout(p))

    def forward(s, x):
        x = x + s.att(s.n1(x))
        return x + s.mlp(s.n2(x))


class GPT(nn.Module):
    def __init__(s, V, T, d=64, h=4, L=2, p=0.05):
        super().__init__()
        s.T = T
        s.tok, s.pos = nn.Embedding(V, d), nn.Embedding(T, d)
        s.blocks = nn.ModuleList([Block(d, h, p) for _ in range(L)])
        s.norm = nn.LayerNorm(d)
        s.head = nn.Linear(d, V, bias=False)
        s.apply(s.init)

    @staticmethod
    def init(m):
        if isinstance(m, (nn.Linear, nn.Embedding)):
            nn.init.normal_(m.weight, std=0.05)
        if isinstance(m, nn.Linear) and m.bias is not None:
            nn.init.zeros_(m.bias)

    def forward(s, i):
        x = s.tok(i) + s.pos(torch.arange(i.size(1)))
        for b in s.blocks:
            x = b(x)
        return s.head(s.norm(x))

    @torch.no_grad()
    def sample(s, i, n):
        for _ in range(n):
            p = s(i[:, -s.T:])[:, -1].softmax(-1)
            i = torch.cat([i, torch.multinomial(p, 1)], 1)
        return i


def batch(ids, B, T, g):
    at = torch.randint(0, len(ids) - T - 1, (B,), generator=g).tolist()
    x = torch.stack([ids[a : a + T] for a in at])
    y = torch.stack([ids[a + 1 : a + T + 1] for a in at])
    return x, y


def xent(m, x, y):
    z = m(x)
    return F.cross_entropy(z.reshape(-1, z.size(-1)), y.reshape(-1))


@torch.no_grad()
def evaluate(m, ids, T):
    m.eval()
    n = (len(ids) - 1) // T
    x, y = ids[: n * T].view(n, T), ids[1 : n * T + 1].view(n, T)
    loss = xent(m, x, y).item()
    m.train()
    return loss


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=800)
    ap.add_argument("--bs", type=int, default=24)
    ap.add_argument("--ctx", type=int, default=64)
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--warmup", type=int, default=50)
    ap.add_argument("--every", type=int, default=100)
    a = ap.parse_args()
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(1)

    raw = text(40000)
    chars = sorted(set(raw))
    stoi = {c: k for k, c in enumerate(chars)}
    ids = torch.tensor([stoi[c] for c in raw])
    n = int(0.9 * len(ids))
    tr, va = ids[:n], ids[n:]

    m = GPT(len(chars), a.ctx)
    opt = torch.optim.AdamW(m.parameters(), lr=a.lr, betas=(0.9, 0.99), weight_decay=0.01)

    def factor(k):
        if k < a.warmup:
            return (k + 1) / a.warmup
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (k - a.warmup) / max(1, a.steps - a.warmup)))

    sched = torch.optim.lr_scheduler.LambdaLR(opt, factor)
    t0, run = time.time(), 0.0
    for it in range(1, a.steps + 1):
        x, y = batch(tr, a.bs, a.ctx, g)
        loss = xent(m, x, y)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        opt.step()
        sched.step()
        run += loss.item()
        if it % a.every == 0:
            v = evaluate(m, va, a.ctx)
            print(f"{it:5d} train {run / a.every:.4f} val {v:.4f} bpc {v / math.log(2):.3f} {time.time() - t0:.0f}s")
            run = 0.0
    m.eval()
    out = m.sample(torch.tensor([[stoi["t"]]]), 120)[0].tolist()
    print("".join(chars[c] for c in out))


if __name__ == "__main__":
    main()
