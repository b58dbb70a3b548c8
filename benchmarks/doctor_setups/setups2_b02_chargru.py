"""
Minimal character-level GRU language model. One file, few abstractions.
Reads a small text, predicts the next character at each position.
"""

import math

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import text

# -----------------------------------------------------------------------------
# hyperparameters
block_size = 48
batch_size = 32
stride = 9
n_embd = 64
n_hidden = 64
learning_rate = 1e-2
min_lr = 1e-3
warmup_iters = 20
lr_decay_iters = 600
grad_clip = 1.0
# -----------------------------------------------------------------------------


class CharDataset(Dataset):
    """Chunks of block_size characters, and the same chunks one character later."""

    def __init__(self, ids):
        self.ids = ids
        self.starts = list(range(0, len(ids) - block_size - 1, stride))

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, idx):
        i = self.starts[idx]
        x = self.ids[i : i + block_size]
        y = self.ids[i + 1 : i + block_size + 1]
        return x, y


class CharGRU(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.rnn = nn.GRU(n_embd, n_hidden, batch_first=True)
        self.lm_head = nn.Linear(n_hidden, vocab_size, bias=False)
        nn.init.normal_(self.wte.weight, std=0.1)
        nn.init.normal_(self.lm_head.weight, std=0.1)

    def forward(self, idx):
        tok = self.wte(idx)  # (B, T, n_embd)
        h, _ = self.rnn(tok)  # (B, T, n_hidden)
        logits = self.lm_head(h)  # (B, T, vocab_size)
        return logits


def lm_loss(logits, targets):
    B, T, C = logits.shape
    return F.cross_entropy(logits.reshape(B * T, C), targets.reshape(B * T))


def get_lr(it):
    # 1) linear warmup
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    # 2) after decay, the floor
    if it > lr_decay_iters:
        return min_lr
    # 3) in between, cosine
    ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


def train_step(model, batch, optimizer, loss):
    model.train()
    X, Y = batch
    it = optimizer.param_groups[0].get("iter_num", 0)
    for group in optimizer.param_groups:
        group["lr"] = get_lr(it)
        group["iter_num"] = it + 1
    optimizer.zero_grad(set_to_none=True)
    logits = model(X)
    lossi = loss(logits, Y)
    lossi.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    return lossi


def setup():
    torch.manual_seed(1337)
    raw = text(9000, seed=3)
    chars = sorted(set(raw))
    stoi = {ch: i for i, ch in enumerate(chars)}
    ids = torch.tensor([stoi[c] for c in raw], dtype=torch.long)
    n = int(0.85 * len(ids))
    train_data, val_data = CharDataset(ids[:n]), CharDataset(ids[n:])
    model = CharGRU(len(chars))
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=1e-2)
    return {
        "model": model,
        "train": DataLoader(train_data, batch_size=batch_size, shuffle=True),
        "val": DataLoader(val_data, batch_size=batch_size),
        "loss": lm_loss,
        "optimizer": optimizer,
        "step": train_step,
    }
