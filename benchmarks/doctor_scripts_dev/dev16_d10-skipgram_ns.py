"""word2vec (skip-gram, negative sampling) on a corpus of topics. Pieces after Mikolov et al. (2013b)."""
from collections import Counter
from itertools import chain

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

rng = np.random.default_rng(12)
torch.manual_seed(12)

TOPICS, WORDS_PER_TOPIC = 16, 12
GLUE = "the of and to a in is that it was".split()


def corpus(documents=2500):
    for _ in range(documents):
        topic = rng.integers(TOPICS)
        words = []
        for _ in range(rng.integers(15, 30)):
            if rng.random() < 0.4:
                words.append(GLUE[rng.integers(len(GLUE))])
            else:
                # words of a topic follow Zipf's law
                r = min(int(rng.zipf(1.7)), WORDS_PER_TOPIC) - 1
                t = topic if rng.random() < 0.92 else rng.integers(TOPICS)
                words.append(f"t{t:02d}w{r:02d}")
        yield words


class Vocabulary:
    def __init__(self, docs, min_count=5):
        counts = Counter(chain.from_iterable(docs))
        self.words = [w for w, c in counts.most_common() if c >= min_count]
        self.index = {w: i for i, w in enumerate(self.words)}
        self.counts = np.array([counts[w] for w in self.words], dtype=np.float64)

    def __len__(self):
        return len(self.words)

    def keep_probability(self, t=5e-3):
        f = self.counts / self.counts.sum()
        return np.minimum(1.0, np.sqrt(t / f) + t / f)

    def noise(self):
        p = self.counts**0.75
        return torch.tensor(p / p.sum(), dtype=torch.float)


def pairs(docs, vocab, window=4):
    keep = vocab.keep_probability()
    centers, contexts = [], []
    for doc in docs:
        ids = [vocab.index[w] for w in doc if w in vocab.index]
        ids = [i for i in ids if rng.random() < keep[i]]
        for at, center in enumerate(ids):
            reach = rng.integers(1, window + 1)
            around = ids[max(0, at - reach) : at] + ids[at + 1 : at + 1 + reach]
            centers += [center] * len(around)
            contexts += around
    return torch.tensor(centers), torch.tensor(contexts)


class SkipGram(nn.Module):
    def __init__(self, size, dim):
        super().__init__()
        self.center = nn.Embedding(size, dim)
        self.context = nn.Embedding(size, dim)
        nn.init.uniform_(self.center.weight, -0.5 / dim, 0.5 / dim)
        nn.init.zeros_(self.context.weight)

    def forward(self, c, o, negatives):
        v = self.center(c)
        positive = (v * self.context(o)).sum(-1)
        negative = torch.bmm(self.context(negatives), v.unsqueeze(2)).squeeze(2)
        return -(F.logsigmoid(positive) + F.logsigmoid(-negative).sum(-1)).mean()


def neighbour_purity(model, vocab, k=5):
    """How many of the k nearest words are of the same topic, over all topic words."""
    rows = [i for i, w in enumerate(vocab.words) if w not in GLUE]
    topic = torch.tensor([int(vocab.words[i][1:3]) for i in rows])
    e = F.normalize(model.center.weight.detach()[rows], dim=1)
    similarity = e @ e.T
    similarity.fill_diagonal_(-2)
    nearest = similarity.topk(k, dim=1).indices
    return (topic[nearest] == topic[:, None]).float().mean().item()


docs = list(corpus())
vocab = Vocabulary(docs)
noise = vocab.noise()
EPOCHS, BATCH, NEGATIVES, LR = 3, 512, 5, 0.01
model = SkipGram(len(vocab), 32)
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
print(f"{sum(map(len, docs))} tokens, {len(vocab)} words, purity before {neighbour_purity(model, vocab):.2f}")

for epoch in range(EPOCHS):
    centers, contexts = pairs(docs, vocab)  # windows and subsampling anew
    order = torch.randperm(len(centers))
    batches = order.split(BATCH)
    seen, summed = 0, 0.0
    for number, pick in enumerate(batches):
        done = (epoch + number / len(batches)) / EPOCHS
        optimizer.param_groups[0]["lr"] = LR * max(0.05, 1 - done)
        negatives = torch.multinomial(noise, len(pick) * NEGATIVES, replacement=True).view(len(pick), NEGATIVES)
        loss = model(centers[pick], contexts[pick], negatives)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        summed += loss.item() * len(pick)
        seen += len(pick)
    print(f"epoch {epoch + 1}: {seen} pairs, loss {summed / seen:.4f}, purity {neighbour_purity(model, vocab):.3f}")

query = vocab.index["t03w00"]
e = F.normalize(model.center.weight.detach(), dim=1)
print("next to t03w00:", [vocab.words[i] for i in (e @ e[query]).topk(6).indices.tolist()[1:]])
print(f"of the 5 nearest words {neighbour_purity(model, vocab):.1%} share the topic (chance {1 / TOPICS:.1%})")
