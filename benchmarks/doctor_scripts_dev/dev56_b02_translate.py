"""A toy translation with a small transformer, in the manner of the Annotated Transformer."""

import math
import random
import time
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

PAD, BOS, EOS = 0, 1, 2
FIRST = 3
WORDS = 16
VOCAB = FIRST + WORDS


@dataclass
class Config:
    d_model: int = 64
    heads: int = 4
    layers: int = 1
    d_ff: int = 128
    dropout: float = 0.05
    batch_size: int = 32
    epochs: int = 12
    factor: float = 0.25
    warmup: int = 100
    smoothing: float = 0.05
    seed: int = 3


def make_pairs(count, seed, known=()):
    """The target language has other words, in the same order, and ends with EOS."""
    rng = random.Random(seed)
    lexicon = list(range(WORDS))
    random.Random(77).shuffle(lexicon)
    pairs, seen = [], set(known)
    while len(pairs) < count:
        source = tuple(rng.randrange(WORDS) for _ in range(rng.randint(4, 9)))
        if source in seen:
            continue
        seen.add(source)
        target = [lexicon[w] for w in source]
        src = torch.tensor([w + FIRST for w in source])
        tgt = torch.tensor([BOS] + [w + FIRST for w in target] + [EOS])
        pairs.append((src, tgt))
    return pairs, seen


def subsequent_mask(size):
    """True where attention is not allowed."""
    return torch.triu(torch.ones(size, size, dtype=torch.bool), diagonal=1)


class Batch:
    """Object for holding a batch of data with mask during training."""

    def __init__(self, src, tgt, pad=PAD):
        self.src = src
        self.src_pad = src == pad
        self.tgt = tgt[:, :-1]
        self.tgt_y = tgt[:, 1:]
        self.tgt_pad = self.tgt == pad
        self.tgt_mask = subsequent_mask(self.tgt.size(1))
        self.ntokens = int((self.tgt_y != pad).sum())


def collate(pairs):
    src = pad_sequence([s for s, _ in pairs], batch_first=True, padding_value=PAD)
    tgt = pad_sequence([t for _, t in pairs], batch_first=True, padding_value=PAD)
    return src, tgt


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, dropout, max_len=64):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        pe = torch.zeros(max_len, d_model)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * -(math.log(10000.0) / d_model))
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe.unsqueeze(0))

    def forward(self, x):
        return self.dropout(x + self.pe[:, : x.size(1)])


class EncoderDecoder(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.scale = math.sqrt(cfg.d_model)
        self.src_embed = nn.Embedding(VOCAB, cfg.d_model)
        self.tgt_embed = nn.Embedding(VOCAB, cfg.d_model)
        self.position = PositionalEncoding(cfg.d_model, cfg.dropout)
        self.transformer = nn.Transformer(
            cfg.d_model, cfg.heads, cfg.layers, cfg.layers, cfg.d_ff, cfg.dropout, batch_first=True, norm_first=True
        )
        self.generator = nn.Linear(cfg.d_model, VOCAB)
        for embed in (self.src_embed, self.tgt_embed):
            nn.init.normal_(embed.weight, std=1 / self.scale)

    def forward(self, src, tgt, src_pad, tgt_pad, tgt_mask):
        memory_in = self.position(self.src_embed(src) * self.scale)
        out_in = self.position(self.tgt_embed(tgt) * self.scale)
        out = self.transformer(
            memory_in,
            out_in,
            tgt_mask=tgt_mask,
            src_key_padding_mask=src_pad,
            tgt_key_padding_mask=tgt_pad,
            memory_key_padding_mask=src_pad,
        )
        return self.generator(out)


def rate(step, model_size, factor, warmup):
    step = max(step, 1)
    return factor * (model_size ** (-0.5) * min(step ** (-0.5), step * warmup ** (-1.5)))


def run_epoch(loader, model, criterion, optimizer=None, scheduler=None):
    """Train a single epoch, or measure one when there is no optimizer."""
    total_loss, total_tokens, right = 0.0, 0, 0
    for src, tgt in loader:
        batch = Batch(src, tgt)
        logits = model(batch.src, batch.tgt, batch.src_pad, batch.tgt_pad, batch.tgt_mask)
        loss = criterion(logits.reshape(-1, VOCAB), batch.tgt_y.reshape(-1))
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
        keep = batch.tgt_y != PAD
        right += int((logits.argmax(-1) == batch.tgt_y)[keep].sum())
        total_loss += loss.item() * batch.ntokens
        total_tokens += batch.ntokens
    return total_loss / total_tokens, right / total_tokens


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    train_pairs, seen = make_pairs(1600, seed=1)
    valid_pairs, _ = make_pairs(200, seed=2, known=seen)
    train_loader = DataLoader(train_pairs, cfg.batch_size, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_pairs, 100, collate_fn=collate)

    model = EncoderDecoder(cfg)
    criterion = nn.CrossEntropyLoss(ignore_index=PAD, label_smoothing=cfg.smoothing)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    scheduler = LambdaLR(optimizer, lambda step: rate(step, cfg.d_model, cfg.factor, cfg.warmup))

    for epoch in range(cfg.epochs):
        start = time.time()
        model.train()
        loss, accuracy = run_epoch(train_loader, model, criterion, optimizer, scheduler)
        model.eval()
        with torch.no_grad():
            valid_loss, valid_accuracy = run_epoch(valid_loader, model, criterion)
        print(
            f"epoch {epoch} train {loss:.3f} ({accuracy:.3f}) valid {valid_loss:.3f} ({valid_accuracy:.3f}) "
            f"lr {optimizer.param_groups[0]['lr']:.2e} {time.time() - start:.1f}s"
        )


if __name__ == "__main__":
    main()
