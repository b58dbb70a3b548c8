"""Rewrite dates: '1998-03-07', '07.03.1998' or 'mar 7, 1998' become '7 march 1998', letter by letter."""

import datetime
import math
import os
import random
import tempfile
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

PAD, BOS, EOS = 0, 1, 2
MONTHS = (
    "january february march april may june july august september october november december"
).split()


@dataclass
class Config:
    train_count: int = 4000
    valid_count: int = 500
    embedding: int = 48
    hidden: int = 96
    batch_size: int = 64
    epochs: int = 20
    lr: float = 3e-3
    clip: float = 1.0
    seed: int = 0


def make_pairs(count, seed):
    rng = random.Random(seed)
    first, last = datetime.date(1950, 1, 1).toordinal(), datetime.date(2030, 1, 1).toordinal()
    pairs = []
    for ordinal in rng.sample(range(first, last), count):
        day = datetime.date.fromordinal(ordinal)
        month = MONTHS[day.month - 1]
        written = rng.choice(
            [day.isoformat(), day.strftime("%d.%m.%Y"), f"{month[:3]} {day.day}, {day.year}"]
        )
        pairs.append((written, f"{day.day} {month} {day.year}"))
    return pairs


class Alphabet:
    def __init__(self, pairs):
        self.letters = ["<pad>", "<bos>", "<eos>"] + sorted(set("".join(a + b for a, b in pairs)))
        self.index = {letter: i for i, letter in enumerate(self.letters)}

    def __len__(self):
        return len(self.letters)

    def encode(self, text):
        return [self.index[letter] for letter in text]

    def decode(self, ids):
        text = ""
        for i in ids:
            if i == EOS:
                break
            text += self.letters[i]
        return text


def collate(alphabet):
    def join(pairs):
        sources = [torch.tensor(alphabet.encode(a)) for a, _ in pairs]
        targets = [torch.tensor([BOS] + alphabet.encode(b) + [EOS]) for _, b in pairs]
        lengths = torch.tensor([len(s) for s in sources])
        return (
            pad_sequence(sources, batch_first=True, padding_value=PAD),
            lengths,
            pad_sequence(targets, batch_first=True, padding_value=PAD),
        )

    return join


class Seq2Seq(nn.Module):
    def __init__(self, vocabulary, embedding, hidden):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.encoder = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden, hidden)
        self.decoder = nn.GRU(embedding, hidden, batch_first=True)
        self.query = nn.Linear(hidden, 2 * hidden, bias=False)
        self.mix = nn.Linear(3 * hidden, hidden)
        self.out = nn.Linear(hidden, vocabulary)

    def encode(self, source, lengths):
        packed = pack_padded_sequence(self.embed(source), lengths, batch_first=True, enforce_sorted=False)
        memory, state = self.encoder(packed)
        memory, _ = pad_packed_sequence(memory, batch_first=True, total_length=source.size(1))
        start = torch.tanh(self.bridge(torch.cat([state[0], state[1]], dim=-1)))
        return memory, start.unsqueeze(0)

    def decode(self, tokens, state, memory, padding):
        hidden, state = self.decoder(self.embed(tokens), state)
        scores = self.query(hidden) @ memory.transpose(1, 2) / math.sqrt(memory.size(-1))
        scores = scores.masked_fill(padding[:, None, :], float("-inf"))
        context = scores.softmax(dim=-1) @ memory
        return self.out(torch.tanh(self.mix(torch.cat([hidden, context], dim=-1)))), state

    def forward(self, source, lengths, tokens):
        memory, state = self.encode(source, lengths)
        logits, _ = self.decode(tokens, state, memory, source == PAD)
        return logits

    @torch.no_grad()
    def greedy(self, source, lengths, limit=24):
        memory, state = self.encode(source, lengths)
        token = torch.full((source.size(0), 1), BOS)
        written = []
        for _ in range(limit):
            logits, state = self.decode(token, state, memory, source == PAD)
            token = logits.argmax(dim=-1)
            written.append(token)
        return torch.cat(written, dim=1)


class Trainer:
    def __init__(self, config, folder):
        self.config = config
        self.path = os.path.join(folder, "best.pt")
        torch.manual_seed(config.seed)
        pairs = make_pairs(config.train_count + config.valid_count, seed=1)
        self.alphabet = Alphabet(pairs)
        train_pairs, valid_pairs = pairs[: config.train_count], pairs[config.train_count :]
        join = collate(self.alphabet)
        self.train_loader = DataLoader(train_pairs, config.batch_size, shuffle=True, collate_fn=join)
        self.valid_loader = DataLoader(valid_pairs, 100, collate_fn=join)
        self.model = self.build()
        self.criterion = nn.CrossEntropyLoss(ignore_index=PAD)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, T_max=config.epochs * len(self.train_loader)
        )

    def build(self):
        return Seq2Seq(len(self.alphabet), self.config.embedding, self.config.hidden)

    def loss(self, source, lengths, target):
        logits = self.model(source, lengths, target[:, :-1])
        return self.criterion(logits.transpose(1, 2), target[:, 1:])

    def train_epoch(self):
        self.model.train()
        losses = []
        for source, lengths, target in self.train_loader:
            loss = self.loss(source, lengths, target)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.optimizer.step()
            self.scheduler.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)

    def exact_match(self, model):
        model.eval()
        right = total = 0
        for source, lengths, target in self.valid_loader:
            written = model.greedy(source, lengths)
            for mine, wanted in zip(written.tolist(), target[:, 1:].tolist()):
                right += self.alphabet.decode(mine) == self.alphabet.decode(wanted)
                total += 1
        return right / total

    def fit(self):
        best = -1.0
        for epoch in range(1, self.config.epochs + 1):
            train_loss = self.train_epoch()
            exact = self.exact_match(self.model)
            if exact > best:
                best = exact
                torch.save({"model": self.model.state_dict(), "epoch": epoch, "exact": exact}, self.path)
            print(f"epoch {epoch:2d}  loss {train_loss:.4f}  exact match {exact:.3f}")

    def test_best(self):
        model = self.build()
        checkpoint = torch.load(self.path)
        model.load_state_dict(checkpoint["model"])
        print(f"best epoch {checkpoint['epoch']}: exact match {self.exact_match(model):.3f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Config(), folder)
        trainer.fit()
        trainer.test_best()
