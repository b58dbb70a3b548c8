"""Dates as people write them -> ISO dates. Encoder-decoder with additive attention (Bahdanau), teacher forcing, masks."""

import datetime
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

PAD, SOS, EOS = 0, 1, 2
MONTHS = "january february march april may june july august september october november december".split()
CHARS = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789 ,./-"))
STOI = {c: i + 3 for i, c in enumerate(CHARS)}
ITOS = {i: c for c, i in STOI.items()}
VOCAB = len(CHARS) + 3


def human(date, rng):
    month = MONTHS[date.month - 1]
    return rng.choice(
        [
            f"{date.day} {month} {date.year}",
            f"{month} {date.day}, {date.year}",
            f"{date.day} {month[:3]} {date.year}",
            f"{date.day}/{date.month}/{date.year}",
            f"{date.day:02d}.{date.month:02d}.{date.year}",
        ]
    )


def make_pairs(count, seed):
    """All dates differ, so that none of the test is among those of training."""
    rng = random.Random(seed)
    start = datetime.date(1950, 1, 1)
    days = rng.sample(range(36000), count)
    dates = [start + datetime.timedelta(days=d) for d in days]
    return [(human(d, rng), d.isoformat()) for d in dates]


def encode(text, eos=True):
    return torch.tensor([STOI[c] for c in text] + ([EOS] if eos else []))


def collate(pairs):
    source = [encode(a) for a, _ in pairs]
    lengths = torch.tensor([len(s) for s in source])
    return pad_sequence(source, batch_first=True, padding_value=PAD), lengths, pad_sequence([encode(b) for _, b in pairs], batch_first=True, padding_value=PAD)


class Encoder(nn.Module):
    def __init__(self, emb, hidden):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, emb, padding_idx=PAD)
        self.rnn = nn.GRU(emb, hidden, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, hidden)

    def forward(self, src, lengths):
        packed = pack_padded_sequence(self.embedding(src), lengths, batch_first=True, enforce_sorted=False)
        outputs, hidden = self.rnn(packed)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=src.size(1))
        return outputs, torch.tanh(self.fc(torch.cat([hidden[0], hidden[1]], 1)))


class Attention(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(2 * hidden, hidden, bias=False)
        self.v = nn.Linear(hidden, 1, bias=False)

    def forward(self, hidden, keys, mask):
        energy = self.v(torch.tanh(self.query(hidden).unsqueeze(1) + keys)).squeeze(2)
        return F.softmax(energy.masked_fill(~mask, float("-inf")), dim=1)


class Decoder(nn.Module):
    def __init__(self, emb, hidden):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, emb)
        self.attention = Attention(hidden)
        self.cell = nn.GRUCell(emb + 2 * hidden, hidden)
        self.out = nn.Linear(3 * hidden + emb, VOCAB)

    def forward(self, token, hidden, outputs, keys, mask):
        embedded = self.embedding(token)
        weights = self.attention(hidden, keys, mask)
        context = torch.bmm(weights.unsqueeze(1), outputs).squeeze(1)
        hidden = self.cell(torch.cat([embedded, context], 1), hidden)
        return self.out(torch.cat([hidden, context, embedded], 1)), hidden


class Seq2Seq(nn.Module):
    def __init__(self, emb=24, hidden=48):
        super().__init__()
        self.encoder, self.decoder = Encoder(emb, hidden), Decoder(emb, hidden)

    def forward(self, src, lengths, target=None, teacher_forcing=0.0, max_len=11):
        outputs, hidden = self.encoder(src, lengths)
        keys, mask = self.decoder.attention.key(outputs), src != PAD
        token = torch.full((len(src),), SOS)
        logits = []
        for t in range(max_len if target is None else target.size(1)):
            step, hidden = self.decoder(token, hidden, outputs, keys, mask)
            logits.append(step)
            forced = target is not None and random.random() < teacher_forcing
            token = target[:, t] if forced else step.argmax(1).detach()
        return torch.stack(logits, 1)


def to_text(row):
    text = ""
    for i in row.tolist():
        if i == EOS:
            break
        text += ITOS.get(i, "?")
    return text


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    exact = total = 0
    example = ""
    for src, lengths, target in loader:
        guess = model(src, lengths).argmax(2)
        for g, t, s in zip(guess, target, src):
            exact += to_text(g) == to_text(t)
            total += 1
            example = f"{to_text(s)} -> {to_text(g)}"
    return exact / total, example


def train(model, loader, optimizer, criterion, teacher_forcing):
    model.train()
    total = 0.0
    for src, lengths, target in loader:
        optimizer.zero_grad()
        logits = model(src, lengths, target, teacher_forcing)
        loss = criterion(logits.flatten(0, 1), target.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
    return total / len(loader)


if __name__ == "__main__":
    random.seed(0)
    torch.manual_seed(0)
    pairs = make_pairs(4600, seed=77)
    train_loader = DataLoader(pairs[:4200], batch_size=64, shuffle=True, collate_fn=collate)
    test_loader = DataLoader(pairs[4200:], batch_size=100, collate_fn=collate)
    model = Seq2Seq()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.88)
    criterion = nn.CrossEntropyLoss(ignore_index=PAD)
    for epoch in range(14):
        forcing = max(0.5, 1.0 - 0.05 * epoch)
        loss = train(model, train_loader, optimizer, criterion, forcing)
        scheduler.step()
        exact, example = evaluate(model, test_loader)
        print(f"Epoch {epoch + 1:02d} | forcing {forcing:.2f} | train loss {loss:.4f} | exact match {exact:.3f} | {example}")
