"""
A character-level GPT in the manner of nanoGPT, on lines such as 07+15=22. The sums of the
validation split never occur in the training split.
"""
import math
import random
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

# -----------------------------------------------------------------------------
eval_interval = 140
eval_iters = 10
gradient_accumulation_steps = 2
batch_size = 24
block_size = 18
learning_rate = 4e-3
max_iters = 560
warmup_iters = 30
lr_decay_iters = 560
min_lr = 1e-4
grad_clip = 1.0
weight_decay = 0.1
device = "cpu"
# -----------------------------------------------------------------------------
torch.manual_seed(1337)
rng = random.Random(1337)
pairs = [(a, b) for a in range(50) for b in range(50)]
rng.shuffle(pairs)
val_pairs, train_pairs = pairs[:250], pairs[250:]
chars = "\n+=0123456789"
stoi = {c: i for i, c in enumerate(chars)}


def make_stream(some, repeats):
    lines = []
    for _ in range(repeats):
        some = rng.sample(some, len(some))
        lines += [f"{a:02d}+{b:02d}={str(a + b).zfill(2)[::-1]}\n" for a, b in some]  # answers reversed
    return torch.tensor([stoi[c] for c in "".join(lines)])


data = {"train": make_stream(train_pairs, 3), "val": make_stream(val_pairs, 3)}


def get_batch(split):
    d = data[split]
    ix = torch.randint(len(d) - block_size, (batch_size,))
    x = torch.stack([d[i:i + block_size] for i in ix])
    y = torch.stack([d[i + 1:i + 1 + block_size] for i in ix])
    return x.to(device), y.to(device)


@dataclass
class GPTConfig:
    vocab_size: int = len(chars)
    n_layer: int = 2
    n_head: int = 4
    n_embd: int = 48


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(c.n_embd), nn.LayerNorm(c.n_embd)
        self.c_attn = nn.Linear(c.n_embd, 3 * c.n_embd)
        self.c_proj = nn.Linear(c.n_embd, c.n_embd)
        self.mlp = nn.Sequential(nn.Linear(c.n_embd, 4 * c.n_embd), nn.GELU(), nn.Linear(4 * c.n_embd, c.n_embd))
        self.n_head = c.n_head

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(c.vocab_size, c.n_embd), nn.Embedding(block_size, c.n_embd)
        self.h = nn.ModuleList(Block(c) for _ in range(c.n_layer))
        self.ln_f = nn.LayerNorm(c.n_embd)
        self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False)
        self.apply(lambda m: nn.init.normal_(m.weight, std=0.05) if isinstance(m, (nn.Linear, nn.Embedding)) else None)
        self.lm_head.weight = self.wte.weight  # weight tying

    def forward(self, idx, targets=None):
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1), device=idx.device))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


model = GPT(GPTConfig()).to(device)
groups = [{"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": weight_decay},
          {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99))


@torch.no_grad()
def estimate_loss():
    model.eval()
    out = {split: torch.stack([model(*get_batch(split))[1] for _ in range(eval_iters)]).mean() for split in data}
    model.train()
    return out


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    ratio = min(1.0, (it - warmup_iters) / (lr_decay_iters - warmup_iters))
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


for iter_num in range(max_iters + 1):
    for group in optimizer.param_groups:
        group["lr"] = get_lr(iter_num)
    if iter_num % eval_interval == 0:
        losses = estimate_loss()
        print(f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
    for micro_step in range(gradient_accumulation_steps):
        X, Y = get_batch("train")
        _, loss = model(X, Y)
        (loss / gradient_accumulation_steps).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

model.eval()
prompts = torch.tensor([[stoi[c] for c in f"\n{a:02d}+{b:02d}="] for a, b in val_pairs])
with torch.no_grad():
    for _ in range(2):
        prompts = torch.cat([prompts, model(prompts)[0][:, -1].argmax(-1, keepdim=True)], 1)
right = sum("".join(chars[i] for i in row[-2:]) == str(a + b).zfill(2)[::-1]
            for row, (a, b) in zip(prompts.tolist(), val_pairs))
print(f"unseen sums right: {right}/{len(val_pairs)}")
