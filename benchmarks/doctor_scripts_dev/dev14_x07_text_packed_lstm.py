"""Sentiment of generated reviews. Bucketed batches, packed sequences, negation makes word counts insufficient."""
import random

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

GOOD, BAD = "great lovely superb fun charming".split(), "awful dull boring weak silly".split()
FILL = ("the film plot actor scene music and with very long story was in of my evening camera light sound "
        "ending a this hero dialog we saw").split()
PAD, UNK = 0, 1


def write_reviews(count, seed):
    rng = random.Random(seed)
    seen, reviews = set(), []
    while len(reviews) < count:
        label = rng.randint(0, 1)
        negated = rng.random() < 0.4
        core = rng.choice(GOOD if label != negated else BAD)
        words = rng.choices(FILL, k=rng.randint(3, 18))
        where = rng.randint(0, len(words))
        words[where:where] = (["not"] if negated else []) + [core]
        if tuple(words) not in seen:
            seen.add(tuple(words))
            reviews.append((words, label))
    return reviews


class Reviews(Dataset):
    def __init__(self, samples, vocab):
        self.samples = [(torch.tensor([vocab.get(w, UNK) for w in words]), label) for words, label in samples]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


class BucketSampler(Sampler):
    """Batches of similar lengths: shuffle, cut in pools, sort each pool, shuffle the batches."""

    def __init__(self, lengths, batch_size, pool=8):
        self.lengths, self.batch_size, self.pool = lengths, batch_size, pool

    def __len__(self):
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self):
        order = torch.randperm(len(self.lengths)).tolist()
        step = self.batch_size * self.pool
        batches = []
        for i in range(0, len(order), step):
            pool = sorted(order[i:i + step], key=self.lengths.__getitem__)
            batches += [pool[j:j + self.batch_size] for j in range(0, len(pool), self.batch_size)]
        random.shuffle(batches)
        return iter(batches)


def collate(samples):
    ids, labels = zip(*samples)
    lengths = torch.tensor([len(x) for x in ids])
    return pad_sequence(ids, batch_first=True, padding_value=PAD), lengths, torch.tensor(labels, dtype=torch.float)


class LSTMClassifier(nn.Module):
    def __init__(self, vocab_size, dim=32, hidden=32):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim, padding_idx=PAD)
        self.rnn = nn.LSTM(dim, hidden, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(2 * hidden, 1)

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.rnn(packed)
        return self.out(self.drop(torch.cat([hidden[0], hidden[1]], dim=1))).squeeze(1)


def binary_accuracy(logits, y):
    return ((logits > 0).float() == y).float().sum().item()


def run_epoch(model, loader, optimizer=None):
    model.train(optimizer is not None)
    loss_sum = acc_sum = n = 0
    with torch.set_grad_enabled(optimizer is not None):
        for ids, lengths, y in loader:
            logits = model(ids, lengths)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, y)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            loss_sum, acc_sum, n = loss_sum + loss.item() * len(y), acc_sum + binary_accuracy(logits, y), n + len(y)
    return loss_sum / n, acc_sum / n


if __name__ == "__main__":
    torch.manual_seed(5)
    random.seed(5)
    reviews = write_reviews(1800, seed=1)
    train, valid = reviews[:1500], reviews[1500:]
    vocab = {w: i + 2 for i, w in enumerate(sorted({w for words, _ in train for w in words}))}
    train_set, valid_set = Reviews(train, vocab), Reviews(valid, vocab)
    train_iter = DataLoader(train_set, batch_sampler=BucketSampler([len(w) for w, _ in train], 32), collate_fn=collate)
    valid_iter = DataLoader(valid_set, batch_size=100, collate_fn=collate)
    model = LSTMClassifier(len(vocab) + 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(8):
        tl, ta = run_epoch(model, train_iter, optimizer)
        vl, va = run_epoch(model, valid_iter)
        print(f"Epoch {epoch + 1:02} | train loss {tl:.3f} acc {ta:.2%} | val loss {vl:.3f} acc {va:.2%}")
