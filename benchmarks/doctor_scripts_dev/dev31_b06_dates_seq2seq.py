"""Sequence to sequence with attention: dates as people write them become ISO dates."""

import datetime
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

PAD, BOS, EOS = 0, 1, 2
SOURCE_CHARS = "abcdefghijklmnopqrstuvwxyz0123456789 ,."
TARGET_CHARS = "0123456789-"
SOURCE_IDS = {char: i + 3 for i, char in enumerate(SOURCE_CHARS)}
TARGET_IDS = {char: i + 3 for i, char in enumerate(TARGET_CHARS)}
FORMATS = ["%d %B %Y", "%B %d, %Y", "%d %b %Y", "%d.%m.%Y"]
TARGET_LENGTH = 12  # with BOS and EOS


def make_pairs(count, seed=0):
    rng = random.Random(seed)
    first = datetime.date(1950, 1, 1).toordinal()
    pairs, known = [], set()
    while len(pairs) < count:
        date = datetime.date.fromordinal(first + rng.randrange(36500))
        written = date.strftime(rng.choice(FORMATS)).lower()
        if written not in known:
            known.add(written)
            pairs.append((written, date.isoformat()))
    return pairs


def encode(pairs):
    longest = max(len(written) for written, _ in pairs)
    sources = torch.full((len(pairs), longest), PAD)
    targets = torch.full((len(pairs), TARGET_LENGTH), PAD)
    for i, (written, iso) in enumerate(pairs):
        sources[i, : len(written)] = torch.tensor([SOURCE_IDS[char] for char in written])
        targets[i] = torch.tensor([BOS] + [TARGET_IDS[char] for char in iso] + [EOS])
    return sources, targets


class Encoder(nn.Module):
    def __init__(self, vocabulary, embedding, hidden, state, dropout):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden, state)

    def forward(self, src):
        mask = src != PAD
        memory, _ = self.gru(self.dropout(self.embed(src)))
        weight = mask.unsqueeze(2).float()
        mean = (memory * weight).sum(1) / weight.sum(1)
        return memory, mask, torch.tanh(self.bridge(mean)).unsqueeze(0)


class Decoder(nn.Module):
    def __init__(self, vocabulary, embedding, memory, state, dropout):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embedding)
        self.dropout = nn.Dropout(dropout)
        self.cell = nn.GRU(embedding, state, batch_first=True)
        self.key = nn.Linear(memory, state, bias=False)
        self.mix = nn.Linear(state + memory, state)
        self.out = nn.Linear(state, vocabulary)

    def forward(self, tokens, state, memory, mask):
        queries, state = self.cell(self.dropout(self.embed(tokens)), state)
        scores = queries @ self.key(memory).transpose(1, 2) / queries.size(-1) ** 0.5
        scores = scores.masked_fill(~mask.unsqueeze(1), -1e9)
        context = scores.softmax(dim=-1) @ memory
        mixed = torch.tanh(self.mix(torch.cat([queries, context], dim=-1)))
        return self.out(self.dropout(mixed)), state


class Seq2Seq(nn.Module):
    def __init__(self, embedding=48, hidden=64, state=128, dropout=0.2):
        super().__init__()
        self.encoder = Encoder(len(SOURCE_CHARS) + 3, embedding, hidden, state, dropout)
        self.decoder = Decoder(len(TARGET_CHARS) + 3, embedding, 2 * hidden, state, dropout)

    def forward(self, src, tokens):
        memory, mask, state = self.encoder(src)
        logits, _ = self.decoder(tokens, state, memory, mask)
        return logits

    def translate(self, src, steps=TARGET_LENGTH - 1):
        memory, mask, state = self.encoder(src)
        token = torch.full((len(src), 1), BOS)
        tokens = []
        for _ in range(steps):
            logits, state = self.decoder(token, state, memory, mask)
            token = logits.argmax(dim=-1)
            tokens.append(token)
        return torch.cat(tokens, dim=1)


class Trainer:
    def __init__(self, model, train_loader, val_loader, lr=3e-3, epochs=14, clip=1.0):
        self.model = model
        self.train_loader, self.val_loader = train_loader, val_loader
        self.epochs, self.clip = epochs, clip
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, epochs * len(train_loader))

    def fit(self):
        for epoch in range(1, self.epochs + 1):
            loss = self.train_epoch()
            characters, exact = self.evaluate()
            print(f"epoch {epoch:2d}  loss {loss:.4f}  characters {characters:.3f}  whole dates {exact:.3f}")

    def train_epoch(self):
        self.model.train()
        total, count = 0.0, 0
        for src, tgt in self.train_loader:
            logits = self.model(src, tgt[:, :-1])
            loss = F.cross_entropy(logits.transpose(1, 2), tgt[:, 1:], ignore_index=PAD)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item() * len(src)
            count += len(src)
        return total / count

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        right, characters, exact, dates = 0, 0, 0, 0
        for src, tgt in self.val_loader:
            equal = self.model.translate(src) == tgt[:, 1:]
            right += equal.sum().item()
            characters += equal.numel()
            exact += equal.all(dim=1).sum().item()
            dates += len(src)
        return right / characters, exact / dates


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sources, targets = encode(make_pairs(6600))
    train_set = TensorDataset(sources[:6000], targets[:6000])
    val_set = TensorDataset(sources[6000:], targets[6000:])
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=200)
    Trainer(Seq2Seq(), train_loader, val_loader).fit()


if __name__ == "__main__":
    main()
