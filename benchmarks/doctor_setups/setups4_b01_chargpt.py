"""Character-level GPT on a toy corpus, after nanoGPT / minGPT."""
import math
from types import SimpleNamespace

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import text

learning_rate, min_lr = 3e-3, 1e-5
batch_size, warmup_iters = 32, 20
lr_decay_iters = 5000
weight_decay, grad_clip = 0.1, 1.0


def windows(data, block_size, stride):
    chunks = data.unfold(0, block_size + 1, stride)
    return TensorDataset(chunks[:, :-1].contiguous(), chunks[:, 1:].contiguous())


class CausalSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.n_head = config.n_head
        mask = torch.tril(torch.ones(config.block_size, config.block_size))
        self.register_buffer("bias", mask.view(1, 1, config.block_size, config.block_size))

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(C, dim=2)
        q, k, v = (t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for t in (q, k, v))
        att = (q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))
        att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
        y = F.softmax(att, dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(config.n_embd), nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.mlp = nn.Sequential(nn.Linear(config.n_embd, 4 * config.n_embd), nn.GELU(), nn.Linear(4 * config.n_embd, config.n_embd))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
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
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln_f(x))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=weight_decay)


def lm_loss(logits, targets):
    B, T, C = logits.size()
    return F.cross_entropy(logits.reshape(B * T, C), targets.reshape(B * T))


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    ratio = min(1.0, (it - warmup_iters) / (lr_decay_iters - warmup_iters))
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


def make_step():
    iter_num = 0

    def step(model, batch, optimizer, loss):
        nonlocal iter_num
        X, Y = batch
        for group in optimizer.param_groups:
            group["lr"] = get_lr(iter_num)
        value = loss(model(X), Y)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        iter_num += 1
        return value
    return step


def setup():
    torch.manual_seed(1337)
    corpus = text(length=12000)
    stoi = {ch: i for i, ch in enumerate(sorted(set(corpus)))}
    data = torch.tensor([stoi[ch] for ch in corpus], dtype=torch.long)
    n = int(0.9 * len(data))
    config = SimpleNamespace(block_size=48, vocab_size=len(stoi), n_layer=2, n_head=4, n_embd=48)
    train = DataLoader(windows(data[:n], config.block_size, stride=8), batch_size=batch_size, shuffle=True, drop_last=True)
    val = DataLoader(windows(data[n:], config.block_size, stride=config.block_size), batch_size=batch_size)
    model = GPT(config)
    return dict(model=model, train=train, val=val, loss=lm_loss, optimizer=model.configure_optimizers(), step=make_step())
