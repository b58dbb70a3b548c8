"""A causal character model with gradient accumulation over micro-batches."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import text

block_size = 48
batch_size = 32
gradient_accumulation_steps = 4
grad_clip = 1.0
learning_rate = 3e-3
n_embd = 48


class CharDataset(Dataset):
    def __init__(self, data, stoi, stride):
        self.ids = torch.tensor([stoi[c] for c in data])
        self.starts = range(0, len(self.ids) - block_size, stride)

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, index):
        chunk = self.ids[self.starts[index] : self.starts[index] + block_size + 1]
        return chunk[:-1], chunk[1:]


class CausalConv(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.pad = 2 * dilation
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, 3, dilation=dilation)

    def forward(self, x):  # (N, T, C)
        h = F.pad(self.norm(x).transpose(1, 2), (self.pad, 0))
        return x + F.gelu(self.conv(h)).transpose(1, 2)


class CharModel(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.h = nn.Sequential(*[CausalConv(n_embd, d) for d in (1, 2, 4)])
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size)

    def forward(self, idx):
        return self.lm_head(self.ln_f(self.h(self.wte(idx))))


def token_loss(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def step(model, batch, optimizer, loss):
    x, y = batch
    total = 0.0
    optimizer.zero_grad(set_to_none=True)
    for xb, yb in zip(x.chunk(gradient_accumulation_steps), y.chunk(gradient_accumulation_steps)):
        value = loss(model(xb), yb) / gradient_accumulation_steps
        value.backward()
        total = total + value.detach()
    nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    return total


def configure_optimizer(model):
    decay = [p for p in model.parameters() if p.dim() >= 2]
    no_decay = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": no_decay, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99))


def setup():
    torch.manual_seed(6)
    data = text(24000, seed=50)
    stoi = {c: i for i, c in enumerate(sorted(set(data)))}
    train_data, val_data = data[:20000], data[20000:]
    model = CharModel(len(stoi))
    return {
        "model": model,
        "train": DataLoader(CharDataset(train_data, stoi, 24), batch_size=batch_size, shuffle=True, drop_last=True),
        "val": DataLoader(CharDataset(val_data, stoi, block_size), batch_size=batch_size),
        "loss": token_loss,
        "optimizer": configure_optimizer(model),
        "step": step,
    }
