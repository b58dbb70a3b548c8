"""Next item of a shopping session: a small SASRec, trained with Accelerate, judged by hit rate at ten."""

import math
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

config = SimpleNamespace(
    items=200,
    sessions=3000,
    longest=20,
    width=48,
    heads=2,
    layers=2,
    dropout=0.1,
    batch_size=64,
    epochs=35,
    lr=3e-3,
    warmup=100,
    weight_decay=0.01,
    seed=13,
)
PAD = 0


def make_sessions(config):
    """Every item has four others that people look at next; now and then they come back to the item before."""
    rng = np.random.default_rng(config.seed)
    followers = np.array([rng.choice(config.items, 4, replace=False) + 1 for _ in range(config.items + 1)])
    sessions = []
    for _ in range(config.sessions):
        session = list(rng.integers(1, config.items + 1, 2))
        for _ in range(int(rng.integers(6, config.longest - 1))):
            chance = rng.random()
            if chance < 0.75:
                session.append(rng.choice(followers[session[-1]], p=[0.4, 0.3, 0.2, 0.1]))
            elif chance < 0.93:
                session.append(rng.choice(followers[session[-2]], p=[0.4, 0.3, 0.2, 0.1]))
            else:
                session.append(rng.integers(1, config.items + 1))
        sessions.append([int(item) for item in session])
    return sessions


class TrainSessions(Dataset):
    """All but the last item of a session, which is kept for validation; targets are the items one place on."""

    def __init__(self, sessions, longest):
        self.sessions, self.longest = sessions, longest

    def __len__(self):
        return len(self.sessions)

    def __getitem__(self, index):
        known = self.sessions[index][:-1]
        inputs, targets = torch.full((self.longest,), PAD), torch.full((self.longest,), PAD)
        inputs[: len(known) - 1] = torch.tensor(known[:-1])
        targets[: len(known) - 1] = torch.tensor(known[1:])
        return inputs, targets


class LastItems(Dataset):
    def __init__(self, sessions, longest):
        self.sessions, self.longest = sessions, longest

    def __len__(self):
        return len(self.sessions)

    def __getitem__(self, index):
        *known, last = self.sessions[index]
        inputs = torch.full((self.longest,), PAD)
        inputs[: len(known)] = torch.tensor(known)
        return inputs, len(known) - 1, last


class Block(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.drop(self.project(mixed.transpose(1, 2).reshape(batch, length, width)))
        return x + self.drop(self.feed(self.norm2(x)))


class SASRec(nn.Module):
    """Sessions are padded at their ends, so that no item ever looks at padding."""

    def __init__(self, config):
        super().__init__()
        self.items = nn.Embedding(config.items + 1, config.width)
        self.places = nn.Embedding(config.longest, config.width)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config.width, config.heads, config.dropout) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.items.weight, std=0.05)
        nn.init.normal_(self.places.weight, std=0.05)

    def forward(self, sessions):
        places = torch.arange(sessions.shape[1], device=sessions.device)
        x = self.drop(self.items(sessions) * math.sqrt(self.items.embedding_dim) + self.places(places))
        for block in self.blocks:
            x = block(x)
        logits = self.norm(x) @ self.items.weight.T
        return logits


def learning_rate(step, total):
    if step < config.warmup:
        return (step + 1) / config.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - config.warmup) / max(1, total - config.warmup)))


@torch.no_grad()
def hit_rate(accelerator, model, loader, k=10):
    model.eval()
    hits = seen = 0
    for inputs, place, last in loader:
        logits = model(inputs)[torch.arange(len(inputs)), place]
        found = (logits.topk(k, dim=1).indices == last.unsqueeze(1)).any(dim=1)
        found = accelerator.gather_for_metrics(found)
        hits += int(found.sum())
        seen += len(found)
    return hits / seen


def main():
    torch.set_num_threads(1)
    set_seed(config.seed)
    accelerator = Accelerator(cpu=True)
    sessions = make_sessions(config)
    train_loader = DataLoader(TrainSessions(sessions, config.longest), batch_size=config.batch_size, shuffle=True)
    valid_loader = DataLoader(LastItems(sessions, config.longest), batch_size=250)
    model = SASRec(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    total = config.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, total))
    model, optimizer, train_loader, valid_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, valid_loader, scheduler
    )

    for epoch in range(config.epochs):
        model.train()
        losses = []
        for inputs, targets in train_loader:
            logits = model(inputs)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD)
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        accelerator.print(
            f"epoch {epoch + 1:2d}  loss {sum(losses) / len(losses):.4f}  "
            f"hit@10 {hit_rate(accelerator, model, valid_loader):.4f}",
            flush=True,
        )
    accelerator.print(f"final hit@10 {hit_rate(accelerator, model, valid_loader):.4f}")


if __name__ == "__main__":
    main()
