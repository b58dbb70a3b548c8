"""A character-level GPT after nanoGPT / minGPT: everything at module level, batches by get_batch()."""

import math

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import text

# hyperparameters
batch_size = 32  # how many independent sequences are processed in parallel
block_size = 32  # the longest context
max_iters = 1500
eval_interval = 100
eval_iters = 10
learning_rate = 2e-3
min_lr = 1e-6
warmup_iters = 100
lr_decay_iters = 1500
n_embd = 64
n_head = 4
n_layer = 2
dropout = 0.05
# ------------

torch.manual_seed(1337)

corpus = text(length=40000, seed=5)
chars = sorted(set(corpus))
vocab_size = len(chars)
stoi = {ch: i for i, ch in enumerate(chars)}
data = torch.tensor([stoi[c] for c in corpus], dtype=torch.long)
n = int(0.9 * len(data))
train_data = data[:n]
val_data = data[n:]


def get_batch(split):
    source = train_data if split == "train" else val_data
    ix = torch.randint(len(source) - block_size, (batch_size,))
    x = torch.stack([source[i : i + block_size] for i in ix.tolist()])
    y = torch.stack([source[i + 1 : i + block_size + 1] for i in ix.tolist()])
    return x, y


class Block(nn.Module):
    """Communication followed by computation."""

    def __init__(self):
        super().__init__()
        self.ln1 = nn.LayerNorm(n_embd)
        self.attn = nn.MultiheadAttention(n_embd, n_head, dropout=dropout, batch_first=True)
        self.ln2 = nn.LayerNorm(n_embd)
        self.mlp = nn.Sequential(
            nn.Linear(n_embd, 4 * n_embd),
            nn.GELU(),
            nn.Linear(4 * n_embd, n_embd),
            nn.Dropout(dropout),
        )
        # True: may not be looked at
        self.register_buffer("mask", torch.triu(torch.ones(block_size, block_size, dtype=torch.bool), diagonal=1))

    def forward(self, x):
        T = x.size(1)
        h = self.ln1(x)
        h, _ = self.attn(h, h, h, attn_mask=self.mask[:T, :T], need_weights=False)
        x = x + h
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, n_embd)
        self.position_embedding = nn.Embedding(block_size, n_embd)
        self.blocks = nn.Sequential(*[Block() for _ in range(n_layer)])
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)

    def forward(self, idx, targets=None):
        B, T = idx.shape
        x = self.token_embedding(idx) + self.position_embedding(torch.arange(T))
        x = self.ln_f(self.blocks(x))
        logits = self.lm_head(x)
        if targets is None:
            return logits, None
        loss = F.cross_entropy(logits.view(B * T, vocab_size), targets.view(B * T))
        return logits, loss


model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.05)


def get_lr(it):
    # 1) linear warmup, 2) after the decay the minimum, 3) a cosine in between
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    if it > lr_decay_iters:
        return min_lr
    ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


@torch.no_grad()
def estimate_loss():
    out = {}
    model.eval()
    for split in ("train", "val"):
        losses, right, total = 0.0, 0, 0
        for _ in range(eval_iters):
            X, Y = get_batch(split)
            logits, loss = model(X, Y)
            losses += loss.item()
            right += (logits.argmax(-1) == Y).sum().item()
            total += Y.numel()
        out[split] = (losses / eval_iters, right / total)
    model.train()
    return out


for it in range(max_iters):
    for group in optimizer.param_groups:
        group["lr"] = get_lr(it)

    xb, yb = get_batch("train")
    _, loss = model(xb, yb)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

    if (it + 1) % eval_interval == 0:
        out = estimate_loss()
        print(
            f"step {it + 1}: train loss {out['train'][0]:.4f}, val loss {out['val'][0]:.4f}, "
            f"val next-character accuracy {out['val'][1]:.3f}"
        )
