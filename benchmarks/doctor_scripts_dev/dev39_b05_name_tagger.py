"""Homework 4: tag persons, places and times. The same name is a person or a place, as the sentence has it."""
import argparse
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import f1_score
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD, UNK = 0, 1
TAGS = ["O", "PER", "LOC", "TIME"]
COMMON = "the a and then we was with very there it after before to of in".split()
TOPICS = {"PER": "married aunt smiled born phoned laughed cousin".split(),
          "LOC": "flew hotel train map border museum airport".split()}
NAMES = "jordan chelsea paris austin georgia florence sydney".split()
TIMES = "monday june noon yesterday".split()


def make_sentences(count, seed):
    rng, sentences = random.Random(seed), []
    for _ in range(count):
        topic = rng.choice(["PER", "LOC"])
        pairs = [(rng.choice(TOPICS[topic]), "O")]
        for _ in range(rng.randint(4, 20)):
            kind = rng.random()
            if kind < 0.15:
                pairs.append((rng.choice(TOPICS[topic]), "O"))
            elif kind < 0.45:
                pairs.append((rng.choice(NAMES), topic))
            elif kind < 0.55:
                pairs.append((rng.choice(TIMES), "TIME"))
            else:
                pairs.append((rng.choice(COMMON), "O"))
        rng.shuffle(pairs)
        sentences.append(pairs)
    return sentences


def build_vocab(sentences):
    vocab = {"<pad>": PAD, "<unk>": UNK}
    for pairs in sentences:
        for word, _ in pairs:
            vocab.setdefault(word, len(vocab))
    return vocab


class TaggedCorpus(Dataset):
    def __init__(self, sentences, vocab):
        self.items = [(torch.tensor([vocab.get(w, UNK) for w, _ in pairs]),
                       torch.tensor([TAGS.index(t) for _, t in pairs])) for pairs in sentences]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def collate(batch):
    tokens, tags = zip(*batch)
    return (pad_sequence(tokens, batch_first=True, padding_value=PAD),
            pad_sequence(tags, batch_first=True, padding_value=-100))


class SelfAttention(nn.Module):
    def __init__(self, dim, heads, dropout):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask):
        b, t, d = x.shape
        q, k, v = (y.view(b, t, self.heads, d // self.heads).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1))
        scores = q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)
        scores = scores.masked_fill(~mask[:, None, None, :], -1e9)
        context = self.dropout(scores.softmax(dim=-1)) @ v
        return self.out(context.transpose(1, 2).reshape(b, t, d))


class EncoderLayer(nn.Module):
    def __init__(self, dim, heads, dropout):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads, dropout)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask):
        x = x + self.dropout(self.attention(self.norm1(x), mask))
        return x + self.dropout(self.feed_forward(self.norm2(x)))


class Tagger(nn.Module):
    def __init__(self, vocab_size, n_tags, dim=48, heads=4, layers=2, max_len=32, dropout=0.1):
        super().__init__()
        self.words = nn.Embedding(vocab_size, dim, padding_idx=PAD)
        self.places = nn.Embedding(max_len, dim)
        self.layers = nn.ModuleList(EncoderLayer(dim, heads, dropout) for _ in range(layers))
        self.norm, self.classifier = nn.LayerNorm(dim), nn.Linear(dim, n_tags)

    def forward(self, tokens):
        mask = tokens != PAD
        x = self.words(tokens) + 0.1 * self.places(torch.arange(tokens.size(1), device=tokens.device))
        for layer in self.layers:
            x = layer(x, mask)
        return self.classifier(self.norm(x))


def evaluate(model, loader):
    model.eval()
    truth, guess = [], []
    with torch.no_grad():
        for tokens, tags in loader:
            keep = tags != -100
            truth.append(tags[keep])
            guess.append(model(tokens).argmax(dim=-1)[keep])
    truth, guess = torch.cat(truth), torch.cat(guess)
    return (truth == guess).float().mean().item(), f1_score(truth.numpy(), guess.numpy(), average="macro")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in [("epochs", 12), ("batch_size", 32), ("lr", 2e-3), ("warmup_steps", 60)]:
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    train_sents, valid_sents = make_sentences(1200, seed=11), make_sentences(250, seed=12)
    vocab = build_vocab(train_sents)
    train_set, valid_set = TaggedCorpus(train_sents, vocab), TaggedCorpus(valid_sents, vocab)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_set, batch_size=100, collate_fn=collate)

    model = Tagger(len(vocab), len(TAGS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    total_steps = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(
        (step + 1) / args.warmup_steps, max(0.0, (total_steps - step) / (total_steps - args.warmup_steps))))

    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for tokens, tags in train_loader:
            logits = model(tokens)
            loss = F.cross_entropy(logits.flatten(0, 1), tags.flatten(), ignore_index=-100)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item()
        acc, f1 = evaluate(model, valid_loader)
        print(f"epoch {epoch + 1}: loss {running / len(train_loader):.4f}, valid accuracy {acc:.4f}, macro F1 {f1:.4f}")


if __name__ == "__main__":
    main()
