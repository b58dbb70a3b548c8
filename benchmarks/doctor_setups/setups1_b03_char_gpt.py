"""A character-level GPT, as small as can be."""

import math
from dataclasses import dataclass
import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from toydata import text

@dataclass
class Config:
    vocab_size: int = 0
    block_size: int = 64
    n_layer: int = 2
    n_head: int = 4
    n_embd: int = 48
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    warmup_tokens: int = 20 * 16 * 64  # about 20 iterations
    final_tokens: int = 1000 * 16 * 64

class CharDataset(Dataset):
    def __init__(self, data, block_size, stride):
        self.data, self.block_size, self.stride = data, block_size, stride
    def __len__(self):
        return (len(self.data) - self.block_size - 1) // self.stride
    def __getitem__(self, idx):
        i, n = idx * self.stride, self.block_size
        return self.data[i : i + n], self.data[i + 1 : i + 1 + n]

class CausalSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        mask = torch.ones(1, 1, config.block_size, config.block_size)
        self.register_buffer("bias", torch.tril(mask))
    def forward(self, x):
        B, T, C = x.size()
        q, k, v = (t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for t in self.c_attn(x).split(C, dim=2))
        att = (q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))
        att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
        y = F.softmax(att, dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))

class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        n = config.n_embd
        self.ln_1, self.ln_2, self.attn = nn.LayerNorm(n), nn.LayerNorm(n), CausalSelfAttention(config)
        self.mlp = nn.Sequential(nn.Linear(n, 4 * n), nn.GELU(), nn.Linear(4 * n, n))
    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))

class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.apply(self._init_weights)
    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    def forward(self, idx):
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1), device=idx.device))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))

class Trainer:
    def __init__(self, config):
        self.config, self.tokens = config, 0
    def configure_optimizer(self, model):
        decay = [p for p in model.parameters() if p.dim() >= 2]
        rest = [p for p in model.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": self.config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, betas=(0.9, 0.95))
    def get_lr(self):
        c = self.config
        if self.tokens < c.warmup_tokens:
            return c.learning_rate * self.tokens / c.warmup_tokens
        progress = min(1.0, (self.tokens - c.warmup_tokens) / (c.final_tokens - c.warmup_tokens))
        return c.learning_rate * max(0.1, 0.5 * (1.0 + math.cos(math.pi * progress)))
    def step(self, model, batch, optimizer, loss):
        x, y = batch
        value = loss(model(x), y)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self.tokens += y.numel()
        for group in optimizer.param_groups:
            group["lr"] = self.get_lr()
        optimizer.step()
        return value

def setup():
    torch.manual_seed(1337)
    raw = text(24000)
    stoi = {ch: i for i, ch in enumerate(sorted(set(raw)))}
    data = torch.tensor([stoi[ch] for ch in raw], dtype=torch.long)
    config, n = Config(vocab_size=len(stoi)), int(0.85 * len(data))
    train, val = CharDataset(data[:n], config.block_size, stride=12), CharDataset(data[n:], config.block_size, stride=12)
    model, trainer = GPT(config), Trainer(config)
    return {
        "model": model,
        "train": DataLoader(train, batch_size=config.batch_size, shuffle=True),
        "val": DataLoader(val, batch_size=config.batch_size),
        "loss": lambda logits, y: F.cross_entropy(logits.view(-1, logits.size(-1)), y.view(-1)),
        "optimizer": trainer.configure_optimizer(model),
        "step": trainer.step,
    }
