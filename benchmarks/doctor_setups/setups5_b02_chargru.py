"""
Minimal character-level GRU language model. One file, no frills.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import text

# hyperparameters
batch_size = 32
block_size = 32
stride = 7
learning_rate = 4e-3
min_lr = 4e-4
warmup_iters = 10
lr_decay_iters = 2000
grad_clip = 1.0
weight_decay = 0.01


@dataclass
class GRUConfig:
    vocab_size: int
    n_embd: int = 64
    n_hidden: int = 64


class CharDataset(Dataset):
    """(x, y) chunks of block_size characters, y is x one character later"""

    def __init__(self, data):
        self.data = data
        self.starts = list(range(0, len(data) - block_size - 1, stride))

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, idx):
        i = self.starts[idx]
        chunk = self.data[i : i + block_size + 1]
        return chunk[:-1], chunk[1:]


class CharGRU(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.rnn = nn.GRU(config.n_embd, config.n_hidden, batch_first=True)
        self.drop = nn.Dropout(0.1)
        self.lm_head = nn.Linear(config.n_hidden, config.vocab_size)
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.1)
        if isinstance(module, nn.Linear):
            torch.nn.init.zeros_(module.bias)

    def forward(self, idx):
        emb = self.wte(idx)  # (B, T, C)
        hidden, _ = self.rnn(emb)  # (B, T, H)
        return self.lm_head(self.drop(hidden))  # (B, T, V)


def lm_loss(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.size(-1)), targets.reshape(-1))


def get_lr(it):
    # 1) linear warmup
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    # 2) after lr_decay_iters, the floor
    if it > lr_decay_iters:
        return min_lr
    # 3) in between, cosine decay down to min lr
    decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
    return min_lr + coeff * (learning_rate - min_lr)


def make_step():
    state = {"iter_num": 0}

    def step(model, batch, optimizer, loss):
        lr = get_lr(state["iter_num"])
        for param_group in optimizer.param_groups:
            param_group["lr"] = lr
        xb, yb = batch
        model.train()
        optimizer.zero_grad(set_to_none=True)
        value = loss(model(xb), yb)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        state["iter_num"] += 1
        return value

    return step


def setup():
    torch.manual_seed(1337)
    raw = text(length=12000, seed=0)
    chars = sorted(set(raw))
    stoi = {ch: i for i, ch in enumerate(chars)}
    data = torch.tensor([stoi[c] for c in raw], dtype=torch.long)
    n = int(0.9 * len(data))
    train_set, val_set = CharDataset(data[:n]), CharDataset(data[n:])
    train = DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=True)
    val = DataLoader(val_set, batch_size=batch_size)
    model = CharGRU(GRUConfig(vocab_size=len(chars)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay)
    return {"model": model, "train": train, "val": val, "loss": lm_loss, "optimizer": optimizer, "step": make_step()}
