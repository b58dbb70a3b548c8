"""tiny char-level GPT. usage: python b01_char_gpt.py [--lr 2e-3] [--d 64] ..."""
import argparse, math, random

import torch
import torch.nn as nn
import torch.nn.functional as F

WHO = [("anna", "she", "her"), ("tom", "he", "his"), ("maria", "she", "her"), ("peter", "he", "his"),
       ("julia", "she", "her"), ("oscar", "he", "his"), ("nina", "she", "her"), ("felix", "he", "his")]
COLOR = "red blue green black white yellow brown purple".split()
THING = "bag coat lamp book chair piano camera mirror violin jacket".split()
MONTH = "march april may june july august".split()
RIDE = "train bus ferry plane tram".split()
CITY = "rome paris berlin madrid oslo vienna lisbon prague".split()


def corpus(n, seed):
    r = random.Random(seed)
    out = []
    for _ in range(n):
        name, he, his = r.choice(WHO)
        out.append(f"{name} packed {his} {r.choice(COLOR)} {r.choice(THING)} in {r.choice(MONTH)} "
                   f"and {he} took the {r.choice(RIDE)} to {r.choice(CITY)} .\n")
    return "".join(out)


class Block(nn.Module):
    def __init__(self, d, h, p):
        super().__init__()
        self.h = h
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.ff = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d), nn.Dropout(p))

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = self.qkv(self.n1(x)).view(B, T, 3, self.h, D // self.h).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(a.transpose(1, 2).reshape(B, T, D))
        return x + self.ff(self.n2(x))


class GPT(nn.Module):
    def __init__(self, vocab, T, d, h, layers, p):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, d), nn.Embedding(T, d)
        self.drop = nn.Dropout(p)
        self.blocks = nn.Sequential(*[Block(d, h, p) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, vocab, bias=False)
        for e in (self.tok, self.pos):
            nn.init.normal_(e.weight, std=0.02)

    def forward(self, idx):
        x = self.tok(idx) + self.pos(torch.arange(idx.shape[1], device=idx.device))
        return self.head(self.norm(self.blocks(self.drop(x))))


def windows(ids, starts, T):
    x = torch.stack([ids[i : i + T] for i in starts])
    y = torch.stack([ids[i + 1 : i + T + 1] for i in starts])
    return x, y


@torch.no_grad()
def evaluate(net, ids, T, bs=64):
    net.eval()
    X, Y = windows(ids, range(0, len(ids) - T, T), T)
    nll = hit = 0.0
    for x, y in zip(X.split(bs), Y.split(bs)):
        logits = net(x)
        nll += F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
        hit += (logits.argmax(-1) == y).sum().item()
    return nll / Y.numel(), hit / Y.numel()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=12)
    ap.add_argument("--iters", type=int, default=90)
    ap.add_argument("--bs", type=int, default=16)
    ap.add_argument("--T", type=int, default=48)
    ap.add_argument("--d", type=int, default=64)
    ap.add_argument("--heads", type=int, default=4)
    ap.add_argument("--layers", type=int, default=2)
    ap.add_argument("--dropout", type=float, default=0.1)
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--warmup", type=int, default=60)
    ap.add_argument("--wd", type=float, default=0.01)
    args = ap.parse_args()
    torch.manual_seed(1337)

    train_txt, val_txt = corpus(2000, 0), corpus(150, 1)
    chars = sorted(set(train_txt))
    stoi = {c: i for i, c in enumerate(chars)}
    train = torch.tensor([stoi[c] for c in train_txt])
    val = torch.tensor([stoi[c] for c in val_txt])

    net = GPT(len(chars), args.T, args.d, args.heads, args.layers, args.dropout)
    print(f"{sum(p.numel() for p in net.parameters()) / 1e3:.0f}k params, vocab {len(chars)}, {len(train)} chars")
    opt = torch.optim.AdamW(net.parameters(), lr=args.lr, betas=(0.9, 0.95), weight_decay=args.wd)
    total = args.epochs * args.iters

    def factor(s):
        return min(1.0, (s + 1) / args.warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, s / total)))

    sched = torch.optim.lr_scheduler.LambdaLR(opt, factor)

    for ep in range(args.epochs):
        net.train()
        run = 0.0
        for _ in range(args.iters):
            starts = torch.randint(len(train) - args.T, (args.bs,)).tolist()
            x, y = windows(train, starts, args.T)
            loss = F.cross_entropy(net(x).flatten(0, 1), y.flatten())
            opt.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            opt.step()
            sched.step()
            run += loss.item()
        vl, va = evaluate(net, val, args.T)
        print(f"ep {ep:2d} train {run / args.iters:.3f} val {vl:.3f} ppl {math.exp(vl):.3f} acc {va:.3f}")


if __name__ == "__main__":
    main()
