"""Translate small English sentences into a toy German whose verb comes last, with nn.Transformer."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

PAD, BOS, EOS = 0, 1, 2
SPECIALS = ["<pad>", "<bos>", "<eos>"]
MAX_LEN = 14
WARMUP = 100
EPOCHS = 15
BATCH_SIZE = 32
PEAK_LR = 2e-3

DET = {"the": "die", "a": "eine", "every": "jede"}
ADJ = {"old": "alte", "small": "kleine", "white": "weisse", "quick": "flinke", "sad": "traurige"}
NOUN = {"cat": "katze", "mouse": "maus", "duck": "ente", "snake": "schlange", "bee": "biene", "cow": "kuh"}
VERB = {"sees": "sieht", "hears": "hoert", "follows": "verfolgt", "likes": "mag", "fears": "fuerchtet"}
ADV = {"today": "heute", "often": "oft", "never": "nie"}
GERMAN = {**DET, **ADJ, **NOUN, **VERB, **ADV, "and": "und"}


def noun_phrase(rng):
    adjective = [rng.choice(list(ADJ))] if rng.random() < 0.5 else []
    return [rng.choice(list(DET))] + adjective + [rng.choice(list(NOUN))]


def make_corpus(count, seed=0):
    rng = random.Random(seed)
    corpus = {}
    while len(corpus) < count:
        subject, verb, rest = noun_phrase(rng), rng.choice(list(VERB)), noun_phrase(rng)
        if rng.random() < 0.3:
            rest = rest + ["and"] + noun_phrase(rng)
        if rng.random() < 0.5:
            rest = rest + [rng.choice(list(ADV))]
        english = subject + [verb] + rest
        corpus[tuple(english)] = tuple(GERMAN[word] for word in subject + rest + [verb])
    return list(corpus.items())


def build_vocab(sentences):
    words = sorted({word for sentence in sentences for word in sentence})
    return {word: i for i, word in enumerate(SPECIALS + words)}


def pad(tokens):
    return tokens + [PAD] * (MAX_LEN - len(tokens))


class Translator(nn.Module):
    def __init__(self, src_vocab, tgt_vocab, d_model=64, nhead=4, num_layers=2, dropout=0.1):
        super().__init__()
        self.src_tok, self.src_pos = nn.Embedding(src_vocab, d_model), nn.Embedding(MAX_LEN, d_model)
        self.tgt_tok, self.tgt_pos = nn.Embedding(tgt_vocab, d_model), nn.Embedding(MAX_LEN, d_model)
        self.transformer = nn.Transformer(
            d_model, nhead, num_layers, num_layers, 2 * d_model, dropout, batch_first=True, norm_first=True
        )
        self.generator = nn.Linear(d_model, tgt_vocab)

    def forward(self, src, tgt):
        length = tgt.size(1)
        causal = torch.triu(torch.ones(length, length, dtype=torch.bool, device=tgt.device), diagonal=1)
        src_pad, tgt_pad = src == PAD, tgt == PAD
        hidden = self.transformer(
            self.src_tok(src) + self.src_pos.weight[: src.size(1)],
            self.tgt_tok(tgt) + self.tgt_pos.weight[:length],
            tgt_mask=causal,
            src_key_padding_mask=src_pad,
            tgt_key_padding_mask=tgt_pad,
            memory_key_padding_mask=src_pad,
        )
        return self.generator(hidden)


def sequence_loss(logits, target):
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)


def train_epoch(model, loader, optimizer, scheduler):
    model.train()
    total = 0.0
    for src, tgt in loader:
        logits = model(src, tgt[:, :-1])
        loss = sequence_loss(logits, tgt[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    """Mean loss, and the share of right words when the words before are given."""
    model.eval()
    total, right, words = 0.0, 0, 0
    for src, tgt in loader:
        logits, target = model(src, tgt[:, :-1]), tgt[:, 1:]
        total += sequence_loss(logits, target).item()
        real = target != PAD
        right += (logits.argmax(-1) == target)[real].sum().item()
        words += real.sum().item()
    return total / len(loader), right / words


@torch.no_grad()
def translate(model, src):
    model.eval()
    ys = torch.full((src.size(0), 1), BOS)
    for _ in range(MAX_LEN - 1):
        next_word = model(src, ys)[:, -1].argmax(-1, keepdim=True)
        ys = torch.cat([ys, next_word], dim=1)
    return ys


def until_eos(tokens):
    return tokens[: tokens.index(EOS)] if EOS in tokens else tokens


def main():
    torch.manual_seed(0)
    corpus = make_corpus(1480)
    train_pairs, valid_pairs = corpus[:1280], corpus[1280:]
    src_vocab = build_vocab(english for english, _ in train_pairs)
    tgt_vocab = build_vocab(german for _, german in train_pairs)

    def collate(batch):
        src = [pad([src_vocab[word] for word in english] + [EOS]) for english, _ in batch]
        tgt = [pad([BOS] + [tgt_vocab[word] for word in german] + [EOS]) for _, german in batch]
        return torch.tensor(src), torch.tensor(tgt)

    train_loader = DataLoader(train_pairs, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_pairs, batch_size=50, collate_fn=collate)

    model = Translator(len(src_vocab), len(tgt_vocab))
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.98), eps=1e-9)
    scheduler = LambdaLR(optimizer, lambda step: min((step + 1) / WARMUP, (WARMUP / (step + 1)) ** 0.5))

    for epoch in range(1, EPOCHS + 1):
        train_loss = train_epoch(model, train_loader, optimizer, scheduler)
        valid_loss, accuracy = evaluate(model, valid_loader)
        print(f"epoch {epoch:2d} | train {train_loss:.3f} | valid {valid_loss:.3f} | words {accuracy:.2%}")

    exact = 0
    for src, tgt in valid_loader:
        for guess, truth in zip(translate(model, src).tolist(), tgt.tolist()):
            exact += until_eos(guess) == until_eos(truth)
    print(f"translated without a mistake: {exact} of {len(valid_pairs)}")


if __name__ == "__main__":
    main()
