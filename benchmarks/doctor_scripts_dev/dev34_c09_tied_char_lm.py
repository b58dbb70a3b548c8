"""Characters with a small transformer and Accelerate: tied embeddings, gradient accumulation, warmup + cosine."""
import math
import os
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from toydata import text

CONTEXT, DIM, HEADS, LAYERS = 64, 64, 4, 2


class Windows(Dataset):
    def __init__(self, ids, stride):
        self.ids = ids
        self.starts = list(range(0, len(ids) - CONTEXT - 1, stride))

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, index):
        piece = self.ids[self.starts[index] : self.starts[index] + CONTEXT + 1]
        return piece[:-1], piece[1:]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.mlp = nn.Sequential(nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Linear(4 * DIM, DIM))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        batch, length, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        x = x + self.dropout(self.proj(mixed.transpose(1, 2).reshape(batch, length, DIM)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class CharTransformer(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, DIM)
        self.positions = nn.Embedding(CONTEXT, DIM)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, vocabulary, bias=False)
        nn.init.normal_(self.tokens.weight, std=0.05)
        nn.init.normal_(self.positions.weight, std=0.05)
        self.head.weight = self.tokens.weight  # tied

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.norm(self.blocks(x)))


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    total, right, count = 0.0, 0, 0
    for x, y in loader:
        logits = model(x)
        total += F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
        right += (logits.argmax(-1) == y).sum().item()
        count += y.numel()
    return total / count, right / count


def main(epochs=8, batch_size=16, lr=3e-3, accumulate=2):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    corpus = text(length=30000, seed=0)
    characters = sorted(set(corpus))
    ids = torch.tensor([characters.index(c) for c in corpus])
    cut = int(0.9 * len(ids))
    train_loader = DataLoader(Windows(ids[:cut], stride=16), batch_size=batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(Windows(ids[cut:], stride=CONTEXT), batch_size=batch_size)

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    model = CharTransformer(len(characters))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    total = epochs * math.ceil(len(train_loader) / accumulate)
    warmup = 30

    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / (total - warmup))))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, scheduler
    )

    for epoch in range(epochs):
        model.train()
        losses = []
        for x, y in train_loader:
            with accelerator.accumulate(model):
                logits = model(x)
                loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            losses.append(loss.item())
        val_loss, val_accuracy = evaluate(model, val_loader)
        accelerator.print(
            f"epoch {epoch} train {sum(losses) / len(losses):.4f} val {val_loss:.4f} "
            f"perplexity {math.exp(val_loss):.3f} next character right {val_accuracy:.3f}"
        )


if __name__ == "__main__":
    main()
