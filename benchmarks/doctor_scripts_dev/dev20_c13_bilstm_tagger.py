"""Part-of-speech tagging of a made language: rows are filled up, batches hold sentences of similar length."""

import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

PAD, UNK = 0, 1
IGNORE = -100
TAGS = ["DET", "ADJ", "NOUN", "VERB", "ADV", "PREP"]
TAG_INDEX = {tag: i for i, tag in enumerate(TAGS)}
SIZES = {"DET": 4, "ADJ": 30, "NOUN": 60, "VERB": 40, "ADV": 15, "PREP": 8}
BOTH = 40  # words that are nouns or verbs, depending on their place


class Grammar:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.words = {tag: [f"{tag.lower()}{i}" for i in range(n)] for tag, n in SIZES.items()}
        both = [f"both{i}" for i in range(BOTH)]
        self.words["NOUN"] = self.words["NOUN"] + both
        self.words["VERB"] = self.words["VERB"] + both

    def noun_phrase(self):
        tags = ["DET"] + ["ADJ"] * self.rng.choice([0, 0, 1, 2]) + ["NOUN"]
        while self.rng.random() < 0.25:
            tags += ["PREP", "DET", "NOUN"]
        return tags

    def sentence(self):
        tags = self.noun_phrase() + ["VERB"]
        if self.rng.random() < 0.4:
            tags.append("ADV")
        if self.rng.random() < 0.7:
            tags += self.noun_phrase()
        return [self.rng.choice(self.words[tag]) for tag in tags], tags


class TaggedSentences(Dataset):
    def __init__(self, sentences, vocabulary, drop_words=0.0):
        self.words = [torch.tensor([vocabulary.get(w, UNK) for w in words]) for words, _ in sentences]
        self.tags = [torch.tensor([TAG_INDEX[t] for t in tags]) for _, tags in sentences]
        self.drop_words = drop_words

    def __len__(self):
        return len(self.words)

    def __getitem__(self, index):
        words = self.words[index]
        if self.drop_words:  # so that the network learns what to do with unknown words
            words = torch.where(torch.rand(len(words)) < self.drop_words, torch.tensor(UNK), words)
        return words, self.tags[index]


class BucketSampler(Sampler):
    """Batches of similar length: a new shuffle each epoch, sorted within pools, batches in random order."""

    def __init__(self, lengths, batch_size, pool=20):
        self.lengths, self.batch_size, self.pool = lengths, batch_size, pool * batch_size

    def __len__(self):
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self):
        order = torch.randperm(len(self.lengths)).tolist()
        batches = []
        for start in range(0, len(order), self.pool):
            pool = sorted(order[start : start + self.pool], key=lambda i: self.lengths[i])
            batches += [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        random.shuffle(batches)
        return iter(batches)


def collate(samples):
    words, tags = zip(*samples)
    lengths = torch.tensor([len(w) for w in words])
    words = pad_sequence(words, batch_first=True, padding_value=PAD)
    tags = pad_sequence(tags, batch_first=True, padding_value=IGNORE)
    return words, tags, lengths


class BiLSTMTagger(nn.Module):
    def __init__(self, vocabulary_size, tags, embedding=48, hidden=64, dropout=0.2):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, tags)

    def forward(self, words, lengths):
        x = self.dropout(self.embedding(words))
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=words.size(1))
        return self.out(self.dropout(states))


def run(model, loader, criterion, optimizer=None):
    """Mean loss and accuracy per token; trains if there is an optimizer."""
    model.train(optimizer is not None)
    loss_sum, right, tokens = 0.0, 0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for words, tags, lengths in loader:
            logits = model(words, lengths)
            loss = criterion(logits.flatten(0, 1), tags.flatten())
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
            real = tags != IGNORE
            count = real.sum().item()
            loss_sum += loss.item() * count
            right += ((logits.argmax(dim=-1) == tags) & real).sum().item()
            tokens += count
    return loss_sum / tokens, right / tokens


def main():
    random.seed(0)
    torch.manual_seed(0)
    grammar = Grammar(seed=0)
    sentences = [grammar.sentence() for _ in range(5000)]
    sentences = list({tuple(words): (words, tags) for words, tags in sentences}.values())  # none twice
    train, valid = sentences[:4400], sentences[4400:]
    known = sorted({word for words, _ in train for word in words})
    vocabulary = {word: i + 2 for i, word in enumerate(known)}

    train_set = TaggedSentences(train, vocabulary, drop_words=0.02)
    valid_set = TaggedSentences(valid, vocabulary)
    sampler = BucketSampler([len(words) for words, _ in train], batch_size=32)
    train_loader = DataLoader(train_set, batch_sampler=sampler, collate_fn=collate)
    valid_loader = DataLoader(valid_set, batch_size=100, collate_fn=collate)

    model = BiLSTMTagger(len(vocabulary) + 2, len(TAGS))
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, 11):
        train_loss, train_acc = run(model, train_loader, criterion, optimizer)
        valid_loss, valid_acc = run(model, valid_loader, criterion)
        print(
            f"epoch {epoch:2d}: train loss {train_loss:.4f} acc {train_acc:.4f}, "
            f"valid loss {valid_loss:.4f} acc {valid_acc:.4f}"
        )


if __name__ == "__main__":
    main()
