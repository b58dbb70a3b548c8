"""
Trains a tiny GPT on characters. Everything is a global, and may be overridden from the command line, e.g.
$ python dev47_c07_charlm.py max_iters=200 n_layer=1
"""
import math
import sys

import torch
import torch.nn as nn
from torch.nn import functional as F

import toydata

# -----------------------------------------------------------------------------
block_size = 32
batch_size = 16
gradient_accumulation_steps = 2
n_layer, n_head, n_embd = 2, 4, 64
max_iters = 300
warmup_iters = 20
learning_rate, min_lr = 3e-3, 3e-4
weight_decay = 0.1
grad_clip = 1.0
eval_interval = 50
eval_iters = 10
# -----------------------------------------------------------------------------
for arg in sys.argv[1:]:
    key, value = arg.split("=")
    globals()[key] = type(globals()[key])(value)

torch.manual_seed(1337)
corpus = toydata.text()
chars = sorted(set(corpus))
stoi = {ch: i for i, ch in enumerate(chars)}
vocab_size = len(chars)
data = torch.tensor([stoi[ch] for ch in corpus])
cut = int(0.9 * len(data))
splits = {"train": data[:cut], "val": data[cut:]}


def get_batch(split, generator=None):
    # an iteration has no epoch: windows begin anywhere
    d = splits[split]
    ix = torch.randint(len(d) - block_size, (batch_size,), generator=generator)
    x = torch.stack([d[i : i + block_size] for i in ix])
    y = torch.stack([d[i + 1 : i + 1 + block_size] for i in ix])
    return x, y


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = (
            t.view(B, T, n_head, C // n_head).transpose(1, 2) for t in self.c_attn(self.ln_1(x)).split(n_embd, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.wpe = nn.Embedding(block_size, n_embd)
        self.h = nn.ModuleList([Block() for _ in range(n_layer)])
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.wte.weight = self.lm_head.weight  # weight tying
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, idx, targets=None):
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1)))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.view(-1, vocab_size), targets.view(-1))

    @torch.no_grad()
    def generate(self, idx, count):
        for _ in range(count):
            logits, _ = self(idx[:, -block_size:])
            idx = torch.cat([idx, torch.multinomial(logits[:, -1].softmax(-1), 1)], dim=1)
        return idx


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    ratio = (it - warmup_iters) / (max_iters - warmup_iters)
    return min_lr + 0.5 * (1 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


model = GPT()
decay = [p for p in model.parameters() if p.dim() >= 2]
nodecay = [p for p in model.parameters() if p.dim() < 2]
optimizer = torch.optim.AdamW(
    [{"params": decay, "weight_decay": weight_decay}, {"params": nodecay, "weight_decay": 0.0}],
    lr=learning_rate, betas=(0.9, 0.95),
)


@torch.no_grad()
def estimate_loss():
    out = {}
    model.eval()
    for split in splits:
        generator = torch.Generator().manual_seed(0)
        out[split] = torch.stack([model(*get_batch(split, generator))[1] for _ in range(eval_iters)]).mean()
    model.train()
    return out


for iter_num in range(max_iters + 1):
    if iter_num % eval_interval == 0:
        losses = estimate_loss()
        print(f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
    if iter_num == max_iters:
        break
    for param_group in optimizer.param_groups:
        param_group["lr"] = get_lr(iter_num)
    for micro_step in range(gradient_accumulation_steps):
        _, loss = model(*get_batch("train"))
        (loss / gradient_accumulation_steps).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

model.eval()
print("".join(chars[i] for i in model.generate(torch.tensor([[stoi["\n"]]]), 120)[0].tolist()))
