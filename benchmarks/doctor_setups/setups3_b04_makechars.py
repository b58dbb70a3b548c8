"""
Character-level language model: a GRU that predicts the next character at every position.
You'd usually put tiny shakespeare in here; a toy grammar trains on a laptop in seconds.
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import text


@dataclass
class ModelConfig:
    block_size: int = 48  # length of the input sequences of integers
    vocab_size: int = None  # in the range [0 .. vocab_size - 1]
    n_embd: int = 64
    n_hidden: int = 64
    dropout: float = 0.1


# ---------------------------------------------------------------------------------------------
# the data, chunked into overlapping blocks


class CharDataset(Dataset):
    def __init__(self, ids, block_size, stride):
        self.ids = ids
        self.block_size = block_size
        self.stride = stride

    def __len__(self):
        return (len(self.ids) - self.block_size - 1) // self.stride

    def __getitem__(self, idx):
        i = idx * self.stride
        # grab a chunk of (block_size + 1) characters
        chunk = self.ids[i : i + self.block_size + 1]
        x = chunk[:-1]
        y = chunk[1:]  # shifted by one: the next character at each position
        return x, y


# ---------------------------------------------------------------------------------------------
# the model


class CharGRU(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.rnn = nn.GRU(config.n_embd, config.n_hidden, batch_first=True)
        self.lm_head = nn.Linear(config.n_hidden, config.vocab_size, bias=False)
        nn.init.normal_(self.wte.weight, std=0.1)
        nn.init.normal_(self.lm_head.weight, std=0.1)

    def forward(self, idx):
        emb = self.wte(idx)  # (B, T, n_embd)
        out, _ = self.rnn(emb)  # (B, T, n_hidden)
        return self.lm_head(self.drop(out))  # (B, T, vocab_size)


def lm_loss(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.size(-1)), targets.reshape(-1))


# ---------------------------------------------------------------------------------------------
# the training loop's body

grad_clip = 1.0
learning_rate = 4e-3
batch_size = 32


def train_step(model, batch, optimizer, loss):
    x, y = batch
    model.train()
    logits = model(x)
    l = loss(logits, y)
    optimizer.zero_grad(set_to_none=True)
    l.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    return l


def setup():
    torch.manual_seed(1337)
    data = text(24000, seed=3)
    chars = sorted(set(data))
    stoi = {ch: i for i, ch in enumerate(chars)}
    ids = torch.tensor([stoi[ch] for ch in data], dtype=torch.long)
    n = int(0.9 * len(ids))  # first 90% will be train, rest val
    config = ModelConfig(vocab_size=len(chars))
    train_set = CharDataset(ids[:n], config.block_size, stride=12)
    val_set = CharDataset(ids[n:], config.block_size, stride=24)
    model = CharGRU(config)
    return {
        "model": model,
        "train": DataLoader(train_set, batch_size=batch_size, shuffle=True),
        "val": DataLoader(val_set, batch_size=batch_size),
        "loss": lm_loss,
        "optimizer": torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.99)),
        "step": train_step,
        "task": "classify",
    }
