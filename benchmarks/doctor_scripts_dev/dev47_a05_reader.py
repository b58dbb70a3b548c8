# %% [markdown]
# # Reading strips of one to three digits

# %%
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

SEED = 2024
np.random.seed(SEED)
torch.manual_seed(SEED)

BOS, EOS, PAD = 10, 11, 12
VOCAB = 13
MAX_DIGITS = 3
DIM, HEADS, LAYERS = 64, 4, 2
EPOCHS, BATCH, LR, WARMUP = 12, 48, 2e-3, 30


# %%
def make_strips(count, seed):
    digits, labels = draw_digits(count * MAX_DIGITS, seed=seed)
    digits, labels = digits.view(count, MAX_DIGITS, 16, 16), labels.view(count, MAX_DIGITS)
    lengths = torch.randint(1, MAX_DIGITS + 1, (count,), generator=torch.Generator().manual_seed(seed + 1))
    written = torch.arange(MAX_DIGITS) < lengths[:, None]
    strips = digits.float() / 255 * written[:, :, None, None]
    strips = strips.permute(0, 2, 1, 3).reshape(count, 1, 16, 16 * MAX_DIGITS)
    captions = torch.full((count, MAX_DIGITS + 2), PAD)
    captions[:, 0] = BOS
    for row, length in enumerate(lengths.tolist()):
        captions[row, 1 : length + 1] = labels[row, :length]
        captions[row, length + 1] = EOS
    return strips, captions


strips, captions = make_strips(2100, seed=SEED)
train_idx, valid_idx = train_test_split(np.arange(len(strips)), test_size=300, random_state=SEED)
mean, std = strips[train_idx].mean(), strips[train_idx].std()
strips = (strips - mean) / std

train_ds = TensorDataset(strips[train_idx], captions[train_idx])
valid_ds = TensorDataset(strips[valid_idx], captions[valid_idx])
train_dl = DataLoader(train_ds, batch_size=BATCH, shuffle=True)
valid_dl = DataLoader(valid_ds, batch_size=100)


# %%
class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x, source, causal=False):
        B, T, D = x.shape
        q = self.q(x).view(B, T, self.heads, D // self.heads).transpose(1, 2)
        k, v = self.kv(source).view(B, source.shape[1], 2, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.proj(y.transpose(1, 2).reshape(B, T, D))


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.ln1, self.ln2, self.ln3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.self_attn, self.cross_attn = Attention(dim, heads), Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim), nn.Dropout(0.1))

    def forward(self, x, memory):
        h = self.ln1(x)
        x = x + self.self_attn(h, h, causal=True)
        x = x + self.cross_attn(self.ln2(x), memory)
        return x + self.mlp(self.ln3(x))


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.cell = nn.Linear(32 * 4 * 4, DIM)
        self.cell_pos = nn.Parameter(0.2 * torch.randn(MAX_DIGITS, DIM))
        self.tok = nn.Embedding(VOCAB, DIM)
        self.pos = nn.Parameter(0.1 * torch.randn(MAX_DIGITS + 1, DIM))
        self.blocks = nn.ModuleList([Block(DIM, HEADS) for _ in range(LAYERS)])
        self.ln = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, VOCAB, bias=False)
        nn.init.normal_(self.tok.weight, std=0.1)

    def forward(self, strip, tokens):
        maps = self.cnn(strip)  # B, 32, 4, 12: four columns a cell
        B = len(maps)
        cells = maps.view(B, 32, 4, MAX_DIGITS, 4).permute(0, 3, 1, 2, 4).reshape(B, MAX_DIGITS, -1)
        memory = self.cell(cells) + self.cell_pos
        x = self.tok(tokens) + self.pos[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, memory)
        return self.head(self.ln(x))


def caption_loss(logits, target):
    return F.cross_entropy(logits.reshape(-1, VOCAB), target.reshape(-1), ignore_index=PAD)


# %%
@torch.no_grad()
def read(model, strip):
    tokens = torch.full((len(strip), 1), BOS)
    for _ in range(MAX_DIGITS + 1):
        following = model(strip, tokens)[:, -1].argmax(dim=-1, keepdim=True)
        tokens = torch.cat([tokens, following], dim=1)
    return tokens[:, 1:]


def spell(row):
    row = row.tolist()
    return row[: row.index(EOS)] if EOS in row else row


model = Reader()
optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
total = EPOCHS * len(train_dl)
ramp = lambda step: min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / total))
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, ramp)

history = []
for epoch in range(EPOCHS):
    model.train()
    running = 0.0
    for strip, caption in train_dl:
        loss = caption_loss(model(strip, caption[:, :-1]), caption[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        running += loss.item() / len(train_dl)

    model.eval()
    valid_loss, exact = 0.0, 0
    for strip, caption in valid_dl:
        with torch.no_grad():
            valid_loss += caption_loss(model(strip, caption[:, :-1]), caption[:, 1:]).item() / len(valid_dl)
        exact += sum(spell(a) == spell(b) for a, b in zip(read(model, strip), caption[:, 1:]))
    history.append((running, valid_loss, exact / len(valid_ds)))
    print(f"epoch {epoch + 1:2d} | train {running:.3f} | valid {valid_loss:.3f} | exact {history[-1][-1]:.3f}")

# %%
print("exact match of the last epoch:", history[-1][-1])
