"""Sequence to sequence: dates as people write them into ISO dates, character by character, GRUs with attention."""

import datetime
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PAD, SOS, EOS = 0, 1, 2
MONTHS = """january february march april may june july august september october november december""".split()


def write_date(date, rng):
    month = MONTHS[date.month - 1]
    return rng.choice(
        [
            f"{date.day} {month} {date.year}",
            f"{month} {date.day}, {date.year}",
            f"{month[:3]} {date.day} {date.year}",
            f"{date.day:02d}.{date.month:02d}.{date.year}",
        ]
    )


def make_pairs(count, seed):
    """Different source strings with their ISO dates."""
    rng, pairs = random.Random(seed), {}
    first, last = datetime.date(1950, 1, 1).toordinal(), datetime.date(2049, 12, 31).toordinal()
    while len(pairs) < count:
        date = datetime.date.fromordinal(rng.randint(first, last))
        pairs[write_date(date, rng)] = date.isoformat()
    return list(pairs.items())


def make_codec(pairs):
    characters = sorted(set("".join(source + target for source, target in pairs)))
    code = {character: i + 3 for i, character in enumerate(characters)}
    longest = max(len(source) for source, _ in pairs)

    def encode(some_pairs):
        sources = [[code[c] for c in source] + [PAD] * (longest - len(source)) for source, _ in some_pairs]
        targets = [[code[c] for c in target] + [EOS] for _, target in some_pairs]
        return TensorDataset(torch.tensor(sources), torch.tensor(targets))

    def decode(row):
        return "".join(characters[i - 3] for i in row.tolist() if i >= 3)

    return encode, decode, len(characters) + 3


class Encoder(nn.Module):
    def __init__(self, vocab, embedding=32, hidden=96):
        super().__init__()
        self.embed = nn.Embedding(vocab, embedding, padding_idx=PAD)
        self.gru = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden, hidden)

    def forward(self, source):
        filled = source != PAD
        states, _ = self.gru(self.embed(source))
        summary = (states * filled.unsqueeze(2)).sum(dim=1) / filled.sum(dim=1, keepdim=True)
        return states, filled, torch.tanh(self.bridge(summary)).unsqueeze(0)


class Decoder(nn.Module):
    def __init__(self, vocab, embedding=32, hidden=96):
        super().__init__()
        self.embed = nn.Embedding(vocab, embedding)
        self.cell = nn.GRU(embedding, hidden, batch_first=True)
        self.query = nn.Linear(hidden, 2 * hidden)
        self.mix = nn.Linear(3 * hidden, hidden)
        self.out = nn.Linear(hidden, vocab)

    def forward(self, tokens, memory, states, filled):
        outputs, memory = self.cell(self.embed(tokens), memory)
        scores = self.query(outputs) @ states.transpose(1, 2)
        scores = scores.masked_fill(~filled.unsqueeze(1), float("-inf"))
        context = scores.softmax(dim=-1) @ states
        mixed = torch.tanh(self.mix(torch.cat([outputs, context], dim=2)))
        return self.out(mixed), memory


def make_training(encoder, decoder, train_loader, val_loader, epochs, peak_lr=4e-3):
    parameters = list(encoder.parameters()) + list(decoder.parameters())
    optimizer = torch.optim.Adam(parameters, lr=peak_lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_lr, total_steps=epochs * len(train_loader))

    def train_epoch():
        encoder.train()
        decoder.train()
        total = 0.0
        for source, target in train_loader:
            states, filled, memory = encoder(source)
            start = torch.full((len(target), 1), SOS)
            inputs = torch.cat([start, target[:, :-1]], dim=1)
            logits, _ = decoder(inputs, memory, states, filled)
            loss = F.cross_entropy(logits.transpose(1, 2), target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(target)
        return total / len(train_loader.dataset)

    @torch.no_grad()
    def translate(source, length=11):
        states, filled, memory = encoder(source)
        token, written = torch.full((len(source), 1), SOS), []
        for _ in range(length):
            logits, memory = decoder(token, memory, states, filled)
            token = logits.argmax(dim=-1)
            written.append(token)
        return torch.cat(written, dim=1)

    def evaluate():
        encoder.eval()
        decoder.eval()
        exact = characters = 0
        for source, target in val_loader:
            same = translate(source, target.shape[1]) == target
            exact += same.all(dim=1).sum().item()
            characters += same.float().mean(dim=1).sum().item()
        return exact / len(val_loader.dataset), characters / len(val_loader.dataset)

    return train_epoch, evaluate, translate


def main(epochs=12):
    torch.manual_seed(11)
    pairs = make_pairs(9000, seed=11)
    train_pairs, val_pairs = pairs[:8000], pairs[8000:]
    encode, decode, vocab = make_codec(pairs)
    train_loader = DataLoader(encode(train_pairs), batch_size=64, shuffle=True)
    val_loader = DataLoader(encode(val_pairs), batch_size=250)
    encoder, decoder = Encoder(vocab), Decoder(vocab)
    train_epoch, evaluate, translate = make_training(encoder, decoder, train_loader, val_loader, epochs)
    for epoch in range(1, epochs + 1):
        loss = train_epoch()
        exact, characters = evaluate()
        print(f"epoch {epoch:2d} | loss {loss:.4f} | dates right {exact:.3f} | characters right {characters:.3f}")
    sources, _ = next(iter(val_loader))
    for (written, target), row in zip(val_pairs[:3], translate(sources[:3])):
        print(f"{written!r} -> {decode(row)} ({target})")


if __name__ == "__main__":
    main()
