"""Lesson 7: "quatre vingt dix sept mille un" -> "ninety seven thousand one", with a small transformer."""

import random
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD, BOS, EOS = 0, 1, 2

UNITS_FR = "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize".split()
TENS_FR = {2: "vingt", 3: "trente", 4: "quarante", 5: "cinquante", 6: "soixante", 8: "quatre vingt"}
SMALL_EN = "zero one two three four five six seven eight nine ten eleven twelve".split()
SMALL_EN += "thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS_EN = "twenty thirty forty fifty sixty seventy eighty ninety".split()


@dataclass
class Config:
    train_pairs: int = 8000
    valid_pairs: int = 400
    d_model: int = 64
    layers: int = 2
    batch_size: int = 64
    epochs: int = 12
    lr: float = 1.5e-3
    warmup: int = 250


def french(n):
    for size, word in ((1000, "mille"), (100, "cent")):
        if n >= size:
            many, rest = divmod(n, size)
            return " ".join(filter(None, [french(many) if many > 1 else "", word, french(rest) if rest else ""]))
    if n <= 16:
        return UNITS_FR[n]
    tens, unit = divmod(n, 10)
    if tens == 1:
        return "dix " + UNITS_FR[unit]
    if tens in (7, 9):
        tens, unit = tens - 1, unit + 10
    joint = " et " if unit in (1, 11) and tens != 8 else " "
    return TENS_FR[tens] + (joint + french(unit) if unit else "")


def english(n):
    for size, word in ((1000, "thousand"), (100, "hundred")):
        if n >= size:
            many, rest = divmod(n, size)
            return " ".join(filter(None, [english(many), word, english(rest) if rest else ""]))
    if n < 20:
        return SMALL_EN[n]
    tens, unit = divmod(n, 10)
    return TENS_EN[tens - 2] + (" " + SMALL_EN[unit] if unit else "")


class Vocab:
    def __init__(self, sentences):
        words = dict.fromkeys(word for sentence in sentences for word in sentence.split())
        self.itos = ["<pad>", "<bos>", "<eos>", *words]
        self.stoi = {word: number for number, word in enumerate(self.itos)}

    def __len__(self):
        return len(self.itos)

    def encode(self, sentence):
        return [self.stoi[word] for word in sentence.split()]


class NumberPairs(Dataset):
    def __init__(self, numbers, src_vocab=None, tgt_vocab=None):
        self.src = [french(n) for n in numbers]
        self.tgt = [english(n) for n in numbers]
        self.src_vocab = src_vocab or Vocab(self.src)
        self.tgt_vocab = tgt_vocab or Vocab(self.tgt)

    def __len__(self):
        return len(self.src)

    def __getitem__(self, index):
        target = [BOS, *self.tgt_vocab.encode(self.tgt[index]), EOS]
        return torch.tensor(self.src_vocab.encode(self.src[index])), torch.tensor(target)


def collate(batch):
    sources, targets = zip(*batch)
    return pad_sequence(sources, True, PAD), pad_sequence(targets, True, PAD)


def sinusoids(length, width):
    angle = torch.arange(length).unsqueeze(1) * 10000.0 ** (-torch.arange(0, width, 2) / width)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Translator(nn.Module):
    def __init__(self, cfg, src_size, tgt_size):
        super().__init__()
        self.scale = cfg.d_model**0.5
        self.src_embed = nn.Embedding(src_size, cfg.d_model)
        self.tgt_embed = nn.Embedding(tgt_size, cfg.d_model)
        for table in (self.src_embed, self.tgt_embed):
            nn.init.normal_(table.weight, std=cfg.d_model**-0.5)
        self.register_buffer("positions", sinusoids(32, cfg.d_model))
        self.transformer = nn.Transformer(
            cfg.d_model, 4, cfg.layers, cfg.layers, 2 * cfg.d_model, 0.05, batch_first=True, norm_first=True
        )
        self.generator = nn.Linear(cfg.d_model, tgt_size)

    def embed(self, table, tokens):
        return table(tokens) * self.scale + self.positions[: tokens.shape[1]]

    def encode(self, src):
        padding = src == PAD
        return self.transformer.encoder(self.embed(self.src_embed, src), src_key_padding_mask=padding), padding

    def decode(self, tgt, memory, padding):
        causal = torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool).triu(diagonal=1)
        x = self.embed(self.tgt_embed, tgt)
        return self.generator(self.transformer.decoder(x, memory, tgt_mask=causal, memory_key_padding_mask=padding))

    def forward(self, src, tgt):
        return self.decode(tgt, *self.encode(src))

    @torch.no_grad()
    def greedy(self, src, max_length=12):
        memory, padding = self.encode(src)
        tokens = torch.full((len(src), 1), BOS)
        for _ in range(max_length):
            best = self.decode(tokens, memory, padding)[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, best], dim=1)
        return tokens[:, 1:]


def until_eos(row):
    row = row.tolist()
    return row[: row.index(EOS)] if EOS in row else row


class Trainer:
    def __init__(self, model, cfg, train_loader, valid_loader):
        self.model, self.cfg = model, cfg
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.criterion = nn.CrossEntropyLoss(ignore_index=PAD)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, betas=(0.9, 0.98), weight_decay=0.01)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.factor)

    def factor(self, step):
        """Linear warmup, then falling with the root of the number of updates."""
        return min((step + 1) / self.cfg.warmup, (self.cfg.warmup / (step + 1)) ** 0.5)

    def loss(self, src, tgt):
        decoder_input, labels = tgt[:, :-1], tgt[:, 1:]
        return self.criterion(self.model(src, decoder_input).flatten(0, 1), labels.flatten())

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for src, tgt in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.loss(src, tgt)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item()
        return total / len(self.train_loader)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        right = 0
        for src, tgt in self.valid_loader:
            pairs = zip(self.model.greedy(src), tgt[:, 1:])
            right += sum(until_eos(guess) == until_eos(truth) for guess, truth in pairs)
        return right / len(self.valid_loader.dataset)

    def fit(self):
        for epoch in range(1, self.cfg.epochs + 1):
            train_loss = self.train_epoch()
            print(f"epoch {epoch:2d}  train loss {train_loss:.3f}  valid exact match {self.evaluate():.3f}", flush=True)


def main():
    cfg = Config()
    torch.set_num_threads(1)
    torch.manual_seed(3)
    numbers = random.Random(3).sample(range(100_000), cfg.train_pairs + cfg.valid_pairs)
    train_set = NumberPairs(numbers[: cfg.train_pairs])
    valid_set = NumberPairs(numbers[cfg.train_pairs :], train_set.src_vocab, train_set.tgt_vocab)
    train_loader = DataLoader(train_set, cfg.batch_size, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_set, 200, collate_fn=collate)
    model = Translator(cfg, len(train_set.src_vocab), len(train_set.tgt_vocab))
    Trainer(model, cfg, train_loader, valid_loader).fit()


if __name__ == "__main__":
    main()
