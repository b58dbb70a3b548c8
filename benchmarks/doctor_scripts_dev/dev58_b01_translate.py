"""Toy English -> "Romance" translation with nn.Transformer, after the PyTorch language translation tutorial."""

import argparse
import math
import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD, BOS, EOS = 0, 1, 2
LEXICON = {
    "det": {"the": "el", "a": "un", "this": "este"},
    "adj": {"red": "rojo", "big": "gran", "old": "viejo", "sad": "triste"},
    "noun": {"dog": "perro", "cat": "gato", "boy": "nino", "king": "rey"},
    "verb": {"sees": "ve", "wants": "quiere", "hears": "oye"},
}


def noun_phrase(rng):
    det, noun = rng.choice(list(LEXICON["det"])), rng.choice(list(LEXICON["noun"]))
    source, target = [det, noun], [LEXICON["det"][det], LEXICON["noun"][noun]]
    if rng.random() < 0.5:
        adj = rng.choice(list(LEXICON["adj"]))
        source.insert(1, adj)
        target.append(LEXICON["adj"][adj])
    return source, target


def make_pairs(count, seed):
    """Different sentence pairs: subject, verb and mostly an object."""
    rng = random.Random(seed)
    pairs = {}
    while len(pairs) < count:
        source, target = noun_phrase(rng)
        verb = rng.choice(list(LEXICON["verb"]))
        source, target = source + [verb], target + [LEXICON["verb"][verb]]
        if rng.random() < 0.95:
            more_source, more_target = noun_phrase(rng)
            source, target = source + more_source, target + more_target
        pairs[" ".join(source)] = " ".join(target)
    return list(pairs.items())


class Vocab:
    def __init__(self, sentences):
        self.itos = ["<pad>", "<bos>", "<eos>"]
        self.itos += list(dict.fromkeys(word for sentence in sentences for word in sentence.split()))
        self.stoi = {word: i for i, word in enumerate(self.itos)}

    def __len__(self):
        return len(self.itos)

    def encode(self, sentence):
        return torch.tensor([BOS] + [self.stoi[word] for word in sentence.split()] + [EOS])


class ParallelCorpus(Dataset):
    def __init__(self, pairs, vocabs=None):
        self.vocabs = vocabs or (Vocab([s for s, _ in pairs]), Vocab([t for _, t in pairs]))
        self.items = [(self.vocabs[0].encode(s), self.vocabs[1].encode(t)) for s, t in pairs]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def collate(batch):
    sources, targets = zip(*batch)
    return tuple(pad_sequence(side, batch_first=True, padding_value=PAD) for side in (sources, targets))


class PositionalEncoding(nn.Module):
    def __init__(self, size, dropout, maxlen=32):
        super().__init__()
        den = torch.exp(-torch.arange(0, size, 2) * math.log(10000) / size)
        angles = torch.arange(maxlen).unsqueeze(1) * den
        table = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("table", table)

    def forward(self, tokens):
        return self.dropout(tokens + self.table[: tokens.size(1)])


class Seq2SeqTransformer(nn.Module):
    def __init__(self, src_vocab, tgt_vocab, size=64, heads=4, layers=1, dropout=0.05):
        super().__init__()
        self.src_embed = nn.Embedding(src_vocab, size, padding_idx=PAD)
        self.tgt_embed = nn.Embedding(tgt_vocab, size, padding_idx=PAD)
        self.positions = PositionalEncoding(size, dropout)
        self.transformer = nn.Transformer(size, heads, layers, layers, 2 * size, dropout, batch_first=True, norm_first=True)
        self.generator = nn.Linear(size, tgt_vocab)

    def forward(self, src, tgt):
        causal = torch.triu(torch.ones(tgt.size(1), tgt.size(1), dtype=torch.bool), diagonal=1)
        src_pad, tgt_pad = src == PAD, tgt == PAD
        hidden = self.transformer(self.positions(self.src_embed(src)), self.positions(self.tgt_embed(tgt)),
                                  tgt_mask=causal, src_key_padding_mask=src_pad,
                                  tgt_key_padding_mask=tgt_pad, memory_key_padding_mask=src_pad)
        return self.generator(hidden)


def train_epoch(model, loader, criterion, optimizer, scheduler):
    model.train()
    losses = 0.0
    for src, tgt in loader:
        tgt_in, tgt_out = tgt[:, :-1], tgt[:, 1:]
        logits = model(src, tgt_in)
        loss = criterion(logits.reshape(-1, logits.size(-1)), tgt_out.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses += loss.item()
    return losses / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = total = 0
    for src, tgt in loader:
        tgt_in, tgt_out = tgt[:, :-1], tgt[:, 1:]
        predicted = model(src, tgt_in).argmax(-1)
        keep = tgt_out != PAD
        correct += (predicted[keep] == tgt_out[keep]).sum().item()
        total += keep.sum().item()
    return correct / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup-steps", type=int, default=60)
    args = parser.parse_args()
    torch.manual_seed(0)
    pairs = make_pairs(1800, seed=0)
    train_set = ParallelCorpus(pairs[:1500])
    val_set = ParallelCorpus(pairs[1500:], vocabs=train_set.vocabs)
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(val_set, 100, collate_fn=collate)

    model = Seq2SeqTransformer(len(train_set.vocabs[0]), len(train_set.vocabs[1]))
    criterion = nn.CrossEntropyLoss(ignore_index=PAD)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.98))
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / args.warmup_steps, (args.warmup_steps / (step + 1)) ** 0.5))
    for epoch in range(1, args.epochs + 1):
        loss = train_epoch(model, train_loader, criterion, optimizer, scheduler)
        print(f"epoch {epoch:2d}  train loss {loss:.3f}  val token accuracy {evaluate(model, val_loader):.3f}")


if __name__ == "__main__":
    main()
