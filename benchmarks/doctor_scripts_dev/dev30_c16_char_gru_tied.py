"""Character language model: a GRU whose output layer is the embedding, truncated backpropagation through time."""

import math

import torch
from torch import nn
import torch.nn.functional as F

from toydata import text

torch.manual_seed(0)

ROWS, STEPS, EPOCHS = 16, 32, 12

train_text, val_text = text(24000, seed=0), text(6000, seed=1)
alphabet = sorted(set(train_text))
index = {c: i for i, c in enumerate(alphabet)}


def batchify(string):
    """Rows of text that goes on from one batch to the next."""
    codes = torch.tensor([index[c] for c in string])
    length = len(codes) // ROWS
    return codes[: length * ROWS].view(ROWS, length)


def windows(rows):
    for start in range(0, rows.shape[1] - 1, STEPS):
        stop = min(start + STEPS, rows.shape[1] - 1)
        yield rows[:, start:stop], rows[:, start + 1 : stop + 1]


class TiedGRU(nn.Module):
    def __init__(self, symbols, width=64):
        super().__init__()
        self.embed = nn.Embedding(symbols, width)
        self.drop = nn.Dropout(0.1)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.decoder = nn.Linear(width, symbols)
        self.decoder.weight = self.embed.weight
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, x, state=None):
        out, state = self.gru(self.drop(self.embed(x)), state)
        return self.decoder(self.drop(out)), state


train_rows, val_rows = batchify(train_text), batchify(val_text)
model = TiedGRU(len(alphabet))
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)


def train_epoch():
    model.train()
    state, total, count = None, 0.0, 0
    for x, y in windows(train_rows):
        if state is not None:
            state = state.detach()
        logits, state = model(x, state)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item() * y.numel()
        count += y.numel()
    return total / count


@torch.no_grad()
def evaluate():
    model.eval()
    state, total, right, count = None, 0.0, 0, 0
    for x, y in windows(val_rows):
        logits, state = model(x, state)
        total += F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
        right += (logits.argmax(-1) == y).sum().item()
        count += y.numel()
    return total / count, right / count


@torch.no_grad()
def sample(length=60):
    model.eval()
    x, state, out = torch.tensor([[index["t"]]]), None, "t"
    for _ in range(length):
        logits, state = model(x, state)
        x = torch.multinomial(logits[:, -1].softmax(-1), 1)
        out += alphabet[x.item()]
    return out


for epoch in range(EPOCHS):
    train_loss = train_epoch()
    val_loss, accuracy = evaluate()
    scheduler.step()
    print(
        f"epoch {epoch:2d}  train {train_loss:.3f}  val {val_loss:.3f} ({val_loss / math.log(2):.3f} bits)"
        f"  next character right {accuracy:.3f}"
    )
print(sample())
