"""A character-level language model in the manner of nanoGPT: tied weights, causal attention, warm-up and cosine decay."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import text


@dataclass
class GPTConfig:
    vocab_size: int
    block_size: int = 48
    n_layer: int = 2
    n_head: int = 4
    n_embd: int = 64
    dropout: float = 0.1


class CausalSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)
        q, k, v = (part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for part in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = nn.ModuleDict(
            {
                "c_fc": nn.Linear(config.n_embd, 4 * config.n_embd),
                "gelu": nn.GELU(),
                "c_proj": nn.Linear(4 * config.n_embd, config.n_embd),
                "dropout": nn.Dropout(config.dropout),
            }
        )

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        hidden = self.ln_2(x)
        for layer in self.mlp.values():
            hidden = layer(hidden)
        return x + hidden


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight  # tied
        self.apply(self._init_weights)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, mean=0.0, std=0.02 / math.sqrt(2 * config.n_layer))

    @staticmethod
    def _init_weights(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx, targets=None):
        positions = torch.arange(idx.shape[1], device=idx.device)
        x = self.drop(self.wte(idx) + self.wpe(positions))
        for block in self.blocks:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))
        return logits, loss

    @torch.no_grad()
    def generate(self, idx, max_new_tokens, temperature=0.8):
        self.eval()
        for _ in range(max_new_tokens):
            logits, _ = self(idx[:, -self.config.block_size :])
            probs = F.softmax(logits[:, -1] / temperature, dim=-1)
            idx = torch.cat([idx, torch.multinomial(probs, num_samples=1)], dim=1)
        return idx


torch.manual_seed(1337)
batch_size, max_iters, eval_interval = 24, 1000, 100
learning_rate, min_lr, warmup_iters, grad_clip = 3e-3, 1e-4, 50, 1.0

train_text, val_text = text(50000, seed=0), text(5000, seed=1)
chars = sorted(set(train_text))
stoi = {ch: i for i, ch in enumerate(chars)}
itos = dict(enumerate(chars))
train_data = torch.tensor([stoi[ch] for ch in train_text])
val_data = torch.tensor([stoi[ch] for ch in val_text])

model = GPT(GPTConfig(vocab_size=len(chars)))
block_size = model.config.block_size


def get_batch():
    starts = torch.randint(len(train_data) - block_size, (batch_size,))
    windows = starts[:, None] + torch.arange(block_size + 1)
    chunk = train_data[windows]
    return chunk[:, :-1], chunk[:, 1:]


@torch.no_grad()
def validation_loss():
    """The mean over all whole windows of the validation text, one after the other."""
    model.eval()
    count = (len(val_data) - 1) // block_size
    x = val_data[: count * block_size].view(count, block_size)
    y = val_data[1 : count * block_size + 1].view(count, block_size)
    total = sum(model(a, b)[1].item() * len(a) for a, b in zip(x.split(32), y.split(32)))
    model.train()
    return total / count


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    ratio = (it - warmup_iters) / (max_iters - warmup_iters)
    return min_lr + 0.5 * (1 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


decay = [p for p in model.parameters() if p.dim() >= 2]
nodecay = [p for p in model.parameters() if p.dim() < 2]
groups = [{"params": decay, "weight_decay": 0.1}, {"params": nodecay, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99))

print(f"{len(chars)} characters, {sum(p.numel() for p in model.parameters())} parameters")
print(f"before training: val loss {validation_loss():.4f}, log of the alphabet {math.log(len(chars)):.4f}")
model.train()
for it in range(max_iters):
    for group in optimizer.param_groups:
        group["lr"] = get_lr(it)
    x, y = get_batch()
    _, loss = model(x, y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    if (it + 1) % eval_interval == 0:
        print(f"iter {it + 1}: train loss {loss.item():.4f}, val loss {validation_loss():.4f}", flush=True)

sample = model.generate(torch.tensor([[stoi["t"]]]), 120)[0].tolist()
print("".join(itos[i] for i in sample))
