"""Tags of words that depend on the language named by the first token: a transformer with padding masks,
gradient checkpointing, warm-up and inverse square root decay."""

import math
import random
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

PAD, LANGUAGES, WORDS, TAGS = 0, 3, 24, 5
IGNORE = -100


class Tagged(Dataset):
    def __init__(self, count, seed):
        table = random.Random(1234)
        self.tags = [[table.randrange(TAGS) for _ in range(WORDS)] for _ in range(LANGUAGES)]
        rng = random.Random(seed)
        self.rows = []
        for _ in range(count):
            language = rng.randrange(LANGUAGES)
            words = [rng.randrange(WORDS) for _ in range(rng.randint(5, 16))]
            tokens = [1 + language] + [1 + LANGUAGES + word for word in words]
            tags = [IGNORE] + [self.tags[language][word] for word in words]
            self.rows.append((torch.tensor(tokens), torch.tensor(tags)))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def collate(rows):
    tokens, tags = zip(*rows)
    pad = partial(nn.utils.rnn.pad_sequence, batch_first=True)
    return pad(tokens, padding_value=PAD), pad(tags, padding_value=IGNORE)


class Block(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, x, padding):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, key_padding_mask=padding, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Tagger(nn.Module):
    def __init__(self, width=48, heads=4, depth=2, dropout=0.05, longest=32):
        super().__init__()
        self.embed = nn.Embedding(1 + LANGUAGES + WORDS, width, padding_idx=PAD)
        place = torch.arange(longest)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
        self.register_buffer("positions", torch.cat([place.sin(), place.cos()], dim=1), persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, TAGS)

    def forward(self, tokens):
        padding = tokens == PAD
        x = self.embed(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            if self.training:
                x = checkpoint(block, x, padding, use_reentrant=False)
            else:
                x = block(x, padding)
        return self.out(self.norm(x))


def evaluate(model, loader):
    model.eval()
    right = total = 0
    with torch.no_grad():
        for tokens, tags in loader:
            guess = model(tokens).argmax(-1)
            counted = tags != IGNORE
            right += (guess[counted] == tags[counted]).sum().item()
            total += counted.sum().item()
    return right / total


def main(epochs=14, peak=2e-3, warmup=80):
    torch.manual_seed(0)
    train_loader = DataLoader(Tagged(1600, seed=0), batch_size=32, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(Tagged(300, seed=1), batch_size=100, collate_fn=collate)
    model = Tagger()
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (warmup / (step + 1)) ** 0.5)
    )
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for tokens, tags in train_loader:
            logits = model(tokens)
            loss = criterion(logits.transpose(1, 2), tags)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.item()
        print(f"epoch {epoch + 1:2d}  loss {total / len(train_loader):.4f}  tags right {evaluate(model, val_loader):.4f}")


if __name__ == "__main__":
    main()
