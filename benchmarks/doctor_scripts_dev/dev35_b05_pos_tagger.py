"""Homework 3: part-of-speech tagging with self-attention.

Many words have several tags ("the light duck", "the men duck"), so the tagger has to look around.
"""
import copy
import math
import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

WORDS = {
    "DET": ["the", "a", "every"],
    "ADJ": ["old", "light", "cold", "fast", "small"],
    "NOUN": ["man", "fish", "light", "cold", "duck", "run", "tree"],
    "VERB": ["fish", "duck", "run", "sees", "likes", "takes"],
    "ADV": ["fast", "often", "well"],
    "PREP": ["in", "on", "near"],
    "CONJ": ["and"],
}
TAGS = {tag: number for number, tag in enumerate(WORDS)}
PAD, IGNORE = 0, -100
MAX_LENGTH = 40


def noun_phrase(rng):
    return ["DET"] + ["ADJ"] * rng.choice([0, 0, 1, 1, 2]) + ["NOUN"]


def clause(rng):
    tags = noun_phrase(rng) + ["VERB"]
    if rng.random() < 0.6:
        tags += noun_phrase(rng)
    if rng.random() < 0.3:
        tags += ["ADV"]
    if rng.random() < 0.5:
        tags += ["PREP"] + noun_phrase(rng)
    if rng.random() < 0.3:
        tags += ["CONJ"] + clause(rng)
    return tags


def make_corpus(count, seed=0):
    """Different sentences, as pairs of words and tags."""
    rng, corpus = random.Random(seed), {}
    while len(corpus) < count:
        tags = clause(rng)
        if len(tags) <= MAX_LENGTH:
            words = tuple(rng.choice(WORDS[tag]) for tag in tags)
            corpus[words] = tags
    return [(list(words), tags) for words, tags in corpus.items()]


VOCABULARY = {word: number for number, word in enumerate(sorted({w for ws in WORDS.values() for w in ws}), start=1)}


def collate(batch):
    words = [torch.tensor([VOCABULARY[w] for w in sentence]) for sentence, _ in batch]
    tags = [torch.tensor([TAGS[t] for t in labels]) for _, labels in batch]
    return (
        pad_sequence(words, batch_first=True, padding_value=PAD),
        pad_sequence(tags, batch_first=True, padding_value=IGNORE),
    )


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.distance = nn.Embedding(2 * MAX_LENGTH - 1, heads)

    def forward(self, x, pad):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)
        place = torch.arange(t)
        scores = scores + self.distance(place[None, :] - place[:, None] + MAX_LENGTH - 1).permute(2, 0, 1)
        scores = scores.masked_fill(pad[:, None, None, :], -1e9)
        return self.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, t, d))


class Layer(nn.Module):
    def __init__(self, dim, heads, dropout):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, pad):
        x = x + self.dropout(self.attention(self.norm1(x), pad))
        return x + self.dropout(self.mlp(self.norm2(x)))


class Tagger(nn.Module):
    def __init__(self, vocabulary, tags, dim=48, heads=4, layers=2, dropout=0.25):
        super().__init__()
        self.words = nn.Embedding(vocabulary, dim, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList([Layer(dim, heads, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, tags)

    def forward(self, words):
        pad = words == PAD
        x = self.dropout(self.words(words))
        for layer in self.layers:
            x = layer(x, pad)
        return self.out(self.norm(x))


def evaluate(model, loader):
    model.eval()
    right = total = 0
    with torch.no_grad():
        for words, tags in loader:
            mask = words != PAD
            predicted = model(words).argmax(dim=-1)
            right += (predicted == tags)[mask].sum().item()
            total += mask.sum().item()
    return right / total


def main():
    torch.manual_seed(0)
    corpus = make_corpus(2000)
    random.Random(1).shuffle(corpus)
    train, dev, test = corpus[:1500], corpus[1500:1700], corpus[1700:]
    train_loader = DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate)
    dev_loader = DataLoader(dev, batch_size=64, collate_fn=collate)
    test_loader = DataLoader(test, batch_size=64, collate_fn=collate)

    model = Tagger(len(VOCABULARY) + 1, len(TAGS))
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    best, best_state = 0.0, None
    for epoch in range(1, 16):
        model.train()
        epoch_loss = 0.0
        for words, tags in train_loader:
            optimizer.zero_grad()
            logits = model(words)
            loss = criterion(logits.transpose(1, 2), tags)
            loss.backward()
            optimizer.step()
            epoch_loss += loss.item()
        accuracy = evaluate(model, dev_loader)
        print(f"epoch {epoch}: loss {epoch_loss / len(train_loader):.4f}, dev accuracy {accuracy:.4f}")
        if accuracy > best:
            best, best_state = accuracy, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    print(f"test accuracy {evaluate(model, test_loader):.4f}")


if __name__ == "__main__":
    main()
