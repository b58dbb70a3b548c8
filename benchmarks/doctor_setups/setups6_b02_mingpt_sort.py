"""
A tiny GPT that learns to sort, in the manner of minGPT's demo.
The input is n digits followed by the sorted digits; only the sorted half counts in the loss.
"""

import math

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

n_digits, vocab_size = 6, 6
n_layer, n_head, n_embd = 2, 4, 48
batch_size = 64
learning_rate, min_lr = 2e-3, 2e-4
warmup_iters, lr_decay_iters = 20, 2000
weight_decay, betas, grad_clip = 0.1, (0.9, 0.95), 1.0

class SortDataset(Dataset):
    """ 1600 problems for training, 300 others for testing """

    def __init__(self, split):
        g = torch.Generator().manual_seed(1337)
        problems = torch.unique(torch.randint(vocab_size, (2600, n_digits), generator=g), dim=0)
        problems = problems[torch.randperm(len(problems), generator=g)]
        self.problems = problems[:1600] if split == "train" else problems[1600:1900]

    def __len__(self):
        return len(self.problems)

    def __getitem__(self, idx):
        inp = self.problems[idx]
        cat = torch.cat((inp, torch.sort(inp)[0]))
        # the inputs to the transformer will be the offset sequence
        x, y = cat[:-1].clone(), cat[1:].clone()
        y[: n_digits - 1] = -1  # we only want to predict at output locations
        return x, y

class CausalSelfAttention(nn.Module):
    def __init__(self, block_size):
        super().__init__()
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)
        self.register_buffer("bias", torch.tril(torch.ones(block_size, block_size)).view(1, 1, block_size, block_size))

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = (t.view(B, T, n_head, C // n_head).transpose(1, 2) for t in self.c_attn(x).split(n_embd, dim=2))
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
        y = F.softmax(att, dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))

class Block(nn.Module):
    def __init__(self, block_size):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.attn = CausalSelfAttention(block_size)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))

class GPT(nn.Module):
    def __init__(self, block_size):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, n_embd), nn.Embedding(block_size, n_embd)
        self.h = nn.ModuleList([Block(block_size) for _ in range(n_layer)])
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.05)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx):
        pos = torch.arange(idx.size(1), device=idx.device)
        x = self.wte(idx) + self.wpe(pos)
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))

    def configure_optimizers(self):
        decay = [p for p in self.parameters() if p.dim() >= 2]
        no_decay = [p for p in self.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)

def lm_loss(logits, targets):
    return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)

def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    ratio = min(1.0, (it - warmup_iters) / (lr_decay_iters - warmup_iters))
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)

def train_step(model, batch, optimizer, loss_fn):
    it = optimizer.param_groups[0].get("iter_num", 0)
    for group in optimizer.param_groups:
        group["lr"], group["iter_num"] = get_lr(it), it + 1
    x, y = batch
    loss = loss_fn(model(x), y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    return loss

def setup():
    torch.manual_seed(1337)
    train, test = SortDataset("train"), SortDataset("test")
    model = GPT(block_size=2 * n_digits - 1)
    return dict(model=model, train=DataLoader(train, batch_size=batch_size, shuffle=True), val=DataLoader(test, batch_size=100),
                loss=lm_loss, optimizer=model.configure_optimizers(), step=train_step)
