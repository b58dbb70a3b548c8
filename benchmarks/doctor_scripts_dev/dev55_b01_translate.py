"""A small Transformer that translates sentences of one made-up language into another."""
import argparse
import copy
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

PAD, BOS, EOS = 0, 1, 2
SPECIALS, WORDS = 3, 20


class ParallelCorpus(list):
    """Sentence pairs: each source word has one translation, word order is kept."""

    def __init__(self, count, dictionary, seed):
        super().__init__()
        rng = random.Random(seed)
        for _ in range(count):
            source = [SPECIALS + rng.randrange(WORDS) for _ in range(rng.randint(4, 9))]
            target = [dictionary[w] for w in source]
            self.append((source + [EOS], [BOS] + target + [EOS]))


def pad_collate(pairs):
    def pad(rows):
        longest = max(map(len, rows))
        return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])

    return pad([s for s, _ in pairs]), pad([t for _, t in pairs])


def subsequent_mask(size):
    return ~torch.triu(torch.ones(1, size, size, dtype=torch.bool), diagonal=1)


class MultiHeadedAttention(nn.Module):
    def __init__(self, d_model, heads, dropout):
        super().__init__()
        self.heads, self.d_k = heads, d_model // heads
        self.query, self.key, self.value, self.out = [nn.Linear(d_model, d_model) for _ in range(4)]
        self.dropout = nn.Dropout(dropout)

    def forward(self, query, key, value, mask):
        batch, layers = query.size(0), ((self.query, query), (self.key, key), (self.value, value))
        q, k, v = [f(x).view(batch, -1, self.heads, self.d_k).transpose(1, 2) for f, x in layers]
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.d_k)
        scores = scores.masked_fill(~mask.unsqueeze(1), -1e9)
        x = self.dropout(scores.softmax(-1)) @ v
        return self.out(x.transpose(1, 2).reshape(batch, -1, self.heads * self.d_k))


class Block(nn.Module):
    def __init__(self, d_model, heads, dropout, cross=False):
        super().__init__()
        self.self_attn = MultiHeadedAttention(d_model, heads, dropout)
        self.cross_attn = MultiHeadedAttention(d_model, heads, dropout) if cross else None
        self.ff = nn.Sequential(nn.Linear(d_model, 2 * d_model), nn.ReLU(), nn.Linear(2 * d_model, d_model))
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(3 if cross else 2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask, memory=None, memory_mask=None):
        y = self.norms[0](x)
        x = x + self.dropout(self.self_attn(y, y, y, mask))
        if self.cross_attn is not None:
            x = x + self.dropout(self.cross_attn(self.norms[2](x), memory, memory, memory_mask))
        return x + self.dropout(self.ff(self.norms[1](x)))


class Translator(nn.Module):
    def __init__(self, vocab, d_model=64, heads=4, dropout=0.05, max_len=32):
        super().__init__()
        self.scale = math.sqrt(d_model)
        self.src_embed, self.tgt_embed = nn.Embedding(vocab, d_model), nn.Embedding(vocab, d_model)
        self.position = nn.Embedding(max_len, d_model)
        for table in (self.src_embed, self.tgt_embed):
            nn.init.normal_(table.weight, std=d_model**-0.5)
        self.encoder = Block(d_model, heads, dropout)
        self.decoder = Block(d_model, heads, dropout, cross=True)
        self.enc_norm, self.dec_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.generator = nn.Linear(d_model, vocab)

    def embed(self, table, tokens):
        return table(tokens) * self.scale + self.position(torch.arange(tokens.size(1), device=tokens.device))

    def forward(self, src, tgt):
        src_mask = (src != PAD).unsqueeze(1)
        tgt_mask = (tgt != PAD).unsqueeze(1) & subsequent_mask(tgt.size(1)).to(tgt.device)
        memory = self.enc_norm(self.encoder(self.embed(self.src_embed, src), src_mask))
        hidden = self.decoder(self.embed(self.tgt_embed, tgt), tgt_mask, memory, src_mask)
        return self.generator(self.dec_norm(hidden))


def rate(step, warmup):
    return min((step + 1) / warmup, (warmup / (step + 1)) ** 0.5)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    loss = correct = tokens = 0.0
    for src, tgt in loader:
        logits, gold = model(src, tgt[:, :-1]), tgt[:, 1:]
        real = gold != PAD
        loss += F.cross_entropy(logits[real], gold[real], reduction="sum").item()
        correct += (logits.argmax(-1) == gold)[real].sum().item()
        tokens += real.sum().item()
    return loss / tokens, correct / tokens


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=60)
    args = parser.parse_args()
    torch.manual_seed(0)

    shuffled = list(range(WORDS))
    random.Random(5).shuffle(shuffled)
    dictionary = {SPECIALS + i: SPECIALS + j for i, j in enumerate(shuffled)}
    train_set = ParallelCorpus(1600, dictionary, seed=1)
    valid_set = ParallelCorpus(200, dictionary, seed=2)
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, collate_fn=pad_collate)
    valid_loader = DataLoader(valid_set, 100, collate_fn=pad_collate)

    model = Translator(WORDS + SPECIALS)
    criterion = nn.CrossEntropyLoss(ignore_index=PAD, label_smoothing=0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.98), eps=1e-9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, args.warmup))
    best = float("inf")
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for src, tgt in train_loader:
            logits = model(src, tgt[:, :-1])
            loss = criterion(logits.flatten(0, 1), tgt[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.item()
        valid_loss, accuracy = evaluate(model, valid_loader)
        if valid_loss < best:
            best, best_state = valid_loss, copy.deepcopy(model.state_dict())
        total /= len(train_loader)
        print(f"epoch {epoch + 1} train {total:.3f} valid {valid_loss:.3f} token accuracy {accuracy:.3f}")
    model.load_state_dict(best_state)
    print("best: loss %.3f, accuracy %.3f" % evaluate(model, valid_loader))


if __name__ == "__main__":
    main()
