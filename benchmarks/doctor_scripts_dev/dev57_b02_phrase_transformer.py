"""A small encoder-decoder Transformer that translates phrases of a toy language."""

import math
import random
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

PAD, BOS, EOS = 0, 1, 2
DETS = {"the": "le", "a": "un", "this": "ce"}
ADJS = {"red": "rouge", "black": "noir", "dirty": "sale", "sad": "triste", "brave": "brave"}
NOUNS = {"cat": "chat", "dog": "chien", "bird": "oiseau", "wolf": "loup", "horse": "cheval", "bear": "ours"}
VERBS = {"sees": "voit", "follows": "suit", "loves": "aime", "fears": "craint"}
ADVS = {"often": "souvent", "today": "aujourdhui", "never": "jamais"}
CONFIG = dict(
    d_model=64, heads=4, d_ff=128, dropout=0.05, max_len=12, smoothing=0.05,
    batch_size=64, epochs=14, base_lr=3e-3, warmup=100, train_pairs=1600, valid_pairs=300, seed=7,
)


def noun_phrase(rng):
    det, adj, noun = (rng.choice(list(words)) for words in (DETS, ADJS, NOUNS))
    if rng.random() < 0.5:
        return [det, adj, noun], [DETS[det], NOUNS[noun], ADJS[adj]]
    return [det, noun], [DETS[det], NOUNS[noun]]


def make_pairs(count, rng):
    pairs = {}
    while len(pairs) < count:
        subject, sujet = noun_phrase(rng)
        thing, objet = noun_phrase(rng)
        verb = rng.choice(list(VERBS))
        src, tgt = subject + [verb] + thing, sujet + [VERBS[verb]] + objet
        if rng.random() < 0.3:
            adv = rng.choice(list(ADVS))
            src, tgt = src + [adv], tgt + [ADVS[adv]]
        pairs[tuple(src)] = tuple(tgt)
    return list(pairs.items())


def build_vocab(*tables):
    names = ["<pad>", "<s>", "</s>"] + sorted(word for table in tables for word in table)
    return {name: i for i, name in enumerate(names)}


def encode(phrases, vocab, max_len):
    rows = [[BOS] + [vocab[word] for word in words] + [EOS] for words in phrases]
    return torch.tensor([row + [PAD] * (max_len - len(row)) for row in rows])


class Attention(nn.Module):
    def __init__(self, d_model, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(d_model, d_model) for _ in range(4))

    def forward(self, query, memory, mask):
        B, T, D = query.shape
        split = lambda x: x.view(B, -1, self.heads, D // self.heads).transpose(1, 2)
        q, k, v = split(self.q(query)), split(self.k(memory)), split(self.v(memory))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o(y.transpose(1, 2).reshape(B, T, D))


class Block(nn.Module):
    def __init__(self, cfg, cross=False):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(cfg.d_model) for _ in range(3 if cross else 2))
        self.self_attn = Attention(cfg.d_model, cfg.heads)
        self.cross_attn = Attention(cfg.d_model, cfg.heads) if cross else None
        self.ff = nn.Sequential(nn.Linear(cfg.d_model, cfg.d_ff), nn.ReLU(), nn.Linear(cfg.d_ff, cfg.d_model))
        self.drop = nn.Dropout(cfg.dropout)

    def forward(self, x, mask, memory=None, memory_mask=None):
        h = self.norms[0](x)
        x = x + self.drop(self.self_attn(h, h, mask))
        if self.cross_attn is not None:
            x = x + self.drop(self.cross_attn(self.norms[2](x), memory, memory_mask))
        return x + self.drop(self.ff(self.norms[1](x)))


class EncoderDecoder(nn.Module):
    def __init__(self, cfg, src_size, tgt_size):
        super().__init__()
        self.scale = math.sqrt(cfg.d_model)
        self.src_embed, self.tgt_embed = nn.Embedding(src_size, cfg.d_model), nn.Embedding(tgt_size, cfg.d_model)
        self.position = nn.Parameter(0.5 * torch.randn(cfg.max_len, cfg.d_model))
        for table in (self.src_embed, self.tgt_embed):
            nn.init.normal_(table.weight, std=cfg.d_model**-0.5)
        self.encoder, self.decoder = Block(cfg), Block(cfg, cross=True)
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(cfg.d_model), nn.LayerNorm(cfg.d_model)
        self.project = nn.Linear(cfg.d_model, tgt_size)

    def encode(self, src):
        src_mask = (src != PAD)[:, None, None, :]
        x = self.src_embed(src) * self.scale + self.position[: src.size(1)]
        return self.encoder_norm(self.encoder(x, src_mask)), src_mask

    def decode(self, tgt, memory, src_mask):
        T = tgt.size(1)
        causal = torch.ones(T, T, dtype=torch.bool, device=tgt.device).tril()
        x = self.tgt_embed(tgt) * self.scale + self.position[:T]
        return self.project(self.decoder_norm(self.decoder(x, causal, memory, src_mask)))

    def forward(self, src, tgt):
        return self.decode(tgt, *self.encode(src))


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right, tokens = 0, 0
    for src, tgt in loader:
        pred = model(src, tgt[:, :-1]).argmax(-1)
        real = tgt[:, 1:] != PAD
        right += ((pred == tgt[:, 1:]) & real).sum().item()
        tokens += real.sum().item()
    return right / tokens


def main():
    cfg = SimpleNamespace(**CONFIG)
    torch.manual_seed(cfg.seed)
    pairs = make_pairs(cfg.train_pairs + cfg.valid_pairs, random.Random(cfg.seed))
    src_vocab = build_vocab(DETS, ADJS, NOUNS, VERBS, ADVS)
    tgt_vocab = build_vocab(*(table.values() for table in (DETS, ADJS, NOUNS, VERBS, ADVS)))

    def collate(batch):
        src, tgt = zip(*batch)
        return encode(src, src_vocab, cfg.max_len), encode(tgt, tgt_vocab, cfg.max_len)

    train_loader = DataLoader(pairs[: cfg.train_pairs], cfg.batch_size, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(pairs[cfg.train_pairs :], cfg.batch_size, collate_fn=collate)
    model = EncoderDecoder(cfg, len(src_vocab), len(tgt_vocab))
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.base_lr, betas=(0.9, 0.98), eps=1e-9)
    warm = lambda step: min((step + 1) / cfg.warmup, (cfg.warmup / (step + 1)) ** 0.5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warm)
    criterion = nn.CrossEntropyLoss(ignore_index=PAD, label_smoothing=cfg.smoothing)
    for epoch in range(cfg.epochs):
        model.train()
        running = 0.0
        for src, tgt in train_loader:
            decoder_input, gold = tgt[:, :-1], tgt[:, 1:]
            loss = criterion(model(src, decoder_input).flatten(0, 1), gold.flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            running += loss.detach()
        accuracy = evaluate(model, valid_loader)
        print(f"epoch {epoch:2d} loss {running / len(train_loader):.3f} token acc {accuracy:.3f}")


if __name__ == "__main__":
    main()
