"""A character-level GPT in the manner of nanoGPT: gradient accumulation, tied weights, decay groups, warmup and cosine."""

import math

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import text

# -----------------------------------------------------------------------------
batch_size = 12
gradient_accumulation_steps = 2
block_size = 48
n_layer, n_head, n_embd, dropout = 2, 4, 64, 0.05
max_iters, eval_interval = 450, 50
learning_rate, min_lr, warmup_iters = 3e-3, 1e-4, 30
weight_decay, grad_clip = 0.1, 1.0
torch.manual_seed(1337)
# -----------------------------------------------------------------------------

data = text(length=40000)
chars = sorted(set(data))
stoi = {c: i for i, c in enumerate(chars)}
ids = torch.tensor([stoi[c] for c in data])
n = int(0.9 * len(ids))
train_data, val_data = ids[:n], ids[n:]


def get_batch():
    ix = torch.randint(len(train_data) - block_size, (batch_size,))
    x = torch.stack([train_data[i : i + block_size] for i in ix])
    y = torch.stack([train_data[i + 1 : i + 1 + block_size] for i in ix])
    return x, y


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd), nn.Dropout(dropout))

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, n_head, C // n_head).transpose(1, 2) for t in self.c_attn(self.ln_1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.wpe = nn.Embedding(block_size, n_embd)
        self.drop = nn.Dropout(dropout)
        self.h = nn.ModuleList(Block() for _ in range(n_layer))
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.apply(self._init_weights)
        self.wte.weight = self.lm_head.weight  # weight tying

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx, targets=None):
        x = self.drop(self.wte(idx) + self.wpe(torch.arange(idx.shape[1])))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))
        return logits, loss


def configure_optimizer(model):
    decay = [p for p in model.parameters() if p.dim() >= 2]
    no_decay = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95))


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    ratio = (it - warmup_iters) / (max_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


@torch.no_grad()
def evaluate(model):
    model.eval()
    count = (len(val_data) - 1) // block_size
    x = val_data[: count * block_size].view(count, block_size)
    y = val_data[1 : count * block_size + 1].view(count, block_size)
    logits, loss = model(x, y)
    accuracy = (logits.argmax(-1) == y).float().mean()
    model.train()
    return loss.item(), accuracy.item()


model = GPT(len(chars))
optimizer = configure_optimizer(model)
model.train()
for iter_num in range(max_iters + 1):
    if iter_num % eval_interval == 0:
        val_loss, val_accuracy = evaluate(model)
        print(f"step {iter_num}: val loss {val_loss:.4f}, next-char accuracy {val_accuracy:.4f}")
    if iter_num == max_iters:
        break
    for group in optimizer.param_groups:
        group["lr"] = get_lr(iter_num)
    for micro_step in range(gradient_accumulation_steps):
        X, Y = get_batch()
        _, loss = model(X, Y)
        loss = loss / gradient_accumulation_steps
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
