# A tiny GPT on characters, after nanoGPT: settings as globals, get_batch, estimate_loss.
import inspect
import math

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import text

# -----------------------------------------------------------------------------
batch_size = 24
block_size = 64
n_layer, n_head, n_embd = 2, 4, 64
dropout = 0.05
max_iters, eval_interval = 480, 40
warmup_iters = 40
learning_rate, min_lr = 3e-3, 3e-4
grad_accum = 2
grad_clip = 1.0
weight_decay = 0.1
# -----------------------------------------------------------------------------
torch.manual_seed(1337)

corpus = text(length=60000, seed=4)
chars = sorted(set(corpus))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in corpus], dtype=torch.long)
n = int(0.9 * len(data))
train_data, val_data = data[:n], data[n:]
print(f"{len(chars)} characters, {len(train_data)} for training, {len(val_data)} for validation")


def get_batch():
    starts = torch.randint(len(train_data) - block_size - 1, (batch_size,))
    x = torch.stack([train_data[i : i + block_size] for i in starts])
    y = torch.stack([train_data[i + 1 : i + 1 + block_size] for i in starts])
    return x, y


val_starts = range(0, len(val_data) - block_size - 1, block_size)
val_x = torch.stack([val_data[i : i + block_size] for i in val_starts])
val_y = torch.stack([val_data[i + 1 : i + 1 + block_size] for i in val_starts])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(n_embd, 3 * n_embd, bias=False)
        self.proj = nn.Linear(n_embd, n_embd, bias=False)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).split(C, dim=2)
        q, k, v = (t.view(B, T, n_head, C // n_head).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout if self.training else 0.0, is_causal=True)
        return self.proj(y.transpose(1, 2).contiguous().view(B, T, C))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.attn = Attention()
        self.mlp = nn.Sequential(
            nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd), nn.Dropout(dropout)
        )

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(len(chars), n_embd)
        self.wpe = nn.Embedding(block_size, n_embd)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([Block() for _ in range(n_layer)])
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, len(chars), bias=False)
        self.apply(self._init)
        for name, p in self.named_parameters():
            if name.endswith("proj.weight") or name.endswith("mlp.2.weight"):
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * n_layer))
        self.wte.weight = self.lm_head.weight  # tied

    def _init(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)

    def forward(self, idx, targets=None):
        x = self.drop(self.wte(idx) + self.wpe(torch.arange(idx.shape[1])))
        for block in self.blocks:
            x = block(x)
        if targets is None:
            return self.lm_head(self.ln_f(x[:, [-1]])), None
        logits = self.lm_head(self.ln_f(x))
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))

    def configure_optimizer(self):
        params = list(self.parameters())  # a tied parameter comes once
        groups = [
            {"params": [p for p in params if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
        ]
        extra = {"foreach": True} if "foreach" in inspect.signature(torch.optim.AdamW).parameters else {}
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.97), **extra)

    @torch.no_grad()
    def generate(self, idx, count, temperature=0.8):
        for _ in range(count):
            logits, _ = self(idx[:, -block_size:])
            probs = F.softmax(logits[:, -1] / temperature, dim=-1)
            idx = torch.cat([idx, torch.multinomial(probs, 1)], dim=1)
        return idx


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    ratio = (it - warmup_iters) / (max_iters - warmup_iters)
    return min_lr + 0.5 * (1 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


@torch.no_grad()
def estimate_loss(model):
    model.eval()
    logits, loss = model(val_x, val_y)
    accuracy = (logits.argmax(-1) == val_y).float().mean()
    model.train()
    return loss.item(), accuracy.item()


model = GPT()
optimizer = model.configure_optimizer()
running = []
for it in range(max_iters):
    for group in optimizer.param_groups:
        group["lr"] = get_lr(it)
    for _ in range(grad_accum):
        x, y = get_batch()
        _, loss = model(x, y)
        (loss / grad_accum).backward()
        running.append(loss.item())
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if (it + 1) % eval_interval == 0:
        val_loss, val_acc = estimate_loss(model)
        print(f"iter {it + 1}: train {sum(running) / len(running):.4f} val {val_loss:.4f} "
              f"perplexity {math.exp(val_loss):.3f} next character right {val_acc:.3f}")
        running = []

model.eval()
print("".join(chars[i] for i in model.generate(torch.tensor([[stoi["t"]]]), 120)[0].tolist()))
