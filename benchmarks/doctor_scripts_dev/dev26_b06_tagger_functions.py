"""Named entities with a BiLSTM: train() and evaluate() as functions, padded batches."""

import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
TAG_TO_ID = {tag: i for i, tag in enumerate(TAGS)}
PAD, UNK = 0, 1
IGNORE = -100

# many names are those of people as well as of places: what stands around them tells
NAMES = ["jordan", "paris", "austin", "florence", "sydney", "madison", "lincoln", "georgia", "carson", "victoria"]
SECOND = ["hill", "west", "hamilton", "wells", "brook"]
NOUNS = ["house", "river", "report", "train", "garden", "letter", "market"]
VERBS = ["saw", "wrote", "left", "found", "liked", "painted"]


def name(rng, kind):
    words = [rng.choice(NAMES)]
    if rng.random() < 0.4:
        words.append(rng.choice(SECOND))
    return [(word, ("B-" if i == 0 else "I-") + kind) for i, word in enumerate(words)]


def plain(*words):
    return [(word, "O") for word in words]


def clause(rng):
    noun, verb = rng.choice(NOUNS), rng.choice(VERBS)
    return rng.choice(
        [
            lambda: plain("mr") + name(rng, "PER") + plain(verb, "the", noun),
            lambda: plain("in") + name(rng, "LOC") + plain("people", verb, "a", noun),
            lambda: plain("the", noun, "of") + name(rng, "PER") + plain("went", "to") + name(rng, "LOC"),
            lambda: plain("the", noun, "was", "near") + name(rng, "LOC"),
            lambda: name(rng, "PER") + plain("said", "that", "the", noun, "was", "old"),
            lambda: plain("they", verb, "a", noun, "on", "the", noun),
            # nothing tells: these two keep the score below 1
            lambda: plain("we", "like") + name(rng, rng.choice(["PER", "LOC"])),
            lambda: name(rng, rng.choice(["PER", "LOC"])) + plain("was", "in", "the", "news"),
        ]
    )()


def make_sentences(count, seed):
    rng = random.Random(seed)
    sentences = []
    for _ in range(count):
        pairs = []
        for i in range(rng.choice([1, 1, 1, 2, 3, 5])):
            pairs += (plain("and") if i else []) + clause(rng)
        sentences.append(pairs + plain("."))
    return sentences


def build_vocab(sentences):
    vocab = {"<pad>": PAD, "<unk>": UNK}
    for sentence in sentences:
        for word, _ in sentence:
            vocab.setdefault(word, len(vocab))
    return vocab


def make_collate(vocab):
    def collate(sentences):
        tokens = [torch.tensor([vocab.get(word, UNK) for word, _ in sentence]) for sentence in sentences]
        tags = [torch.tensor([TAG_TO_ID[tag] for _, tag in sentence]) for sentence in sentences]
        lengths = torch.tensor([len(sentence) for sentence in sentences])
        tokens = pad_sequence(tokens, batch_first=True, padding_value=PAD)
        tags = pad_sequence(tags, batch_first=True, padding_value=IGNORE)
        return tokens, tags, lengths

    return collate


class Tagger(nn.Module):
    def __init__(self, words, tags, embedding=40, hidden=40):
        super().__init__()
        self.embedding = nn.Embedding(words, embedding, padding_idx=PAD)
        self.dropout = nn.Dropout(0.2)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, tags)

    def forward(self, tokens, lengths):
        x = self.dropout(self.embedding(tokens))
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = self.lstm(packed)
        states, _ = pad_packed_sequence(states, batch_first=True)
        return self.out(self.dropout(states))


def train(model, loader, optimizer, criterion):
    model.train()
    total = 0.0
    for tokens, tags, lengths in loader:
        optimizer.zero_grad()
        logits = model(tokens, lengths)
        # batch x tags x time, as the loss wants it
        loss = criterion(logits.transpose(1, 2), tags)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right = count = hits = named = wanted = 0
    for tokens, tags, lengths in loader:
        predicted = model(tokens, lengths).argmax(-1)
        counted = tags != IGNORE
        predicted, tags = predicted[counted], tags[counted]
        right += (predicted == tags).sum().item()
        count += len(tags)
        hits += ((predicted == tags) & (tags != 0)).sum().item()
        named += (predicted != 0).sum().item()
        wanted += (tags != 0).sum().item()
    f1 = 2 * hits / max(named + wanted, 1)
    return right / count, f1


def main():
    torch.manual_seed(0)
    train_sentences = make_sentences(1500, seed=0)
    valid_sentences = make_sentences(300, seed=1)
    vocab = build_vocab(train_sentences)
    collate = make_collate(vocab)
    train_loader = DataLoader(train_sentences, batch_size=32, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_sentences, batch_size=50, collate_fn=collate)

    model = Tagger(len(vocab), len(TAGS))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)

    for epoch in range(1, 31):
        loss = train(model, train_loader, optimizer, criterion)
        accuracy, f1 = evaluate(model, valid_loader)
        print(f"epoch {epoch:2d} | loss {loss:.4f} | valid accuracy {accuracy:.4f} | entity F1 {f1:.4f}")


if __name__ == "__main__":
    main()
