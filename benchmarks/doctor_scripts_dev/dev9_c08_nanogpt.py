"""nanoGPT-like: globals as config, get_batch with prefetch, weight tying, decay groups, cosine with warm-up by hand."""
import inspect
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import text

eval_interval, eval_iters, log_interval = 60, 8, 20
gradient_accumulation_steps = 2
batch_size, block_size = 12, 48
learning_rate, max_iters, weight_decay, beta1, beta2, grad_clip = 3e-3, 180, 1e-1, 0.9, 0.99, 1.0
warmup_iters, lr_decay_iters, min_lr = 10, 180, 3e-4
device, dtype = 'cpu', 'float32'

@dataclass
class GPTConfig:
    block_size: int = 48
    vocab_size: int = 32
    n_layer: int = 3
    n_head: int = 4
    n_embd: int = 64
    bias: bool = False

class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(c.n_embd, bias=c.bias), nn.LayerNorm(c.n_embd, bias=c.bias)
        self.c_attn, self.c_proj = nn.Linear(c.n_embd, 3 * c.n_embd, bias=c.bias), nn.Linear(c.n_embd, c.n_embd, bias=c.bias)
        self.mlp = nn.ModuleDict(dict(c_fc=nn.Linear(c.n_embd, 4 * c.n_embd, bias=c.bias), c_proj=nn.Linear(4 * c.n_embd, c.n_embd, bias=c.bias)))
        self.n_head = c.n_head

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = (t.view(B, T, self.n_head, -1).transpose(1, 2) for t in self.c_attn(self.ln_1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))
        return x + self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(x))))

class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte, self.wpe = nn.Embedding(config.vocab_size, config.n_embd), nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f, self.lm_head = nn.LayerNorm(config.n_embd, bias=config.bias), nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.wte.weight = self.lm_head.weight
        for pn, p in self.named_parameters():
            if p.dim() >= 2:
                nn.init.normal_(p, 0.0, 0.02 / math.sqrt(2 * config.n_layer) if pn.endswith('c_proj.weight') else 0.02)

    def forward(self, idx, targets=None):
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1)))
        for block in self.h:
            x = block(x)
        x = self.ln_f(x)
        if targets is None:
            return self.lm_head(x[:, [-1], :]), None
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)

    @torch.no_grad()
    def generate(self, idx, n):
        for _ in range(n):
            logits, _ = self(idx[:, -self.config.block_size:])
            idx = torch.cat((idx, torch.multinomial(F.softmax(logits[:, -1] / 0.8, -1), 1)), 1)
        return idx

torch.manual_seed(1337)
raw = text(12000)
itos = sorted(set(raw))
data = torch.tensor([itos.index(c) for c in raw])
train_data, val_data = data[:10800], data[10800:]
ctx = nullcontext()

def get_batch(split):
    d = train_data if split == 'train' else val_data
    ix = torch.randint(len(d) - block_size, (batch_size,))
    return torch.stack([d[i:i + block_size] for i in ix]), torch.stack([d[i + 1:i + 1 + block_size] for i in ix])

@torch.no_grad()
def estimate_loss():
    model.eval()
    out = {s: torch.tensor([model(*get_batch(s))[1].item() for _ in range(eval_iters)]).mean() for s in ('train', 'val')}
    model.train()
    return out

def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * min(ratio, 1.0))) * (learning_rate - min_lr)

model = GPT(GPTConfig(vocab_size=len(itos)))
params = [p for p in model.parameters() if p.requires_grad]
groups = [{'params': [p for p in params if p.dim() >= 2], 'weight_decay': weight_decay}, {'params': [p for p in params if p.dim() < 2], 'weight_decay': 0.0}]
optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(beta1, beta2), **({'foreach': True} if 'foreach' in inspect.signature(torch.optim.AdamW).parameters else {}))
X, Y = get_batch('train')
t0, iter_num = time.time(), 0
while True:
    lr = get_lr(iter_num)
    for g in optimizer.param_groups:
        g['lr'] = lr
    if iter_num % eval_interval == 0:
        losses = estimate_loss()
        print(f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
    for micro_step in range(gradient_accumulation_steps):
        with ctx:
            logits, loss = model(X, Y)
            loss = loss / gradient_accumulation_steps
        X, Y = get_batch('train')
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if iter_num % log_interval == 0:
        print(f"iter {iter_num}: loss {loss.item() * gradient_accumulation_steps:.4f}, time {(time.time() - t0) * 1000:.0f}ms")
    iter_num += 1
    if iter_num > max_iters:
        break
model.eval()
print(''.join(itos[i] for i in model.generate(torch.zeros(1, 1, dtype=torch.long), 80)[0]))
