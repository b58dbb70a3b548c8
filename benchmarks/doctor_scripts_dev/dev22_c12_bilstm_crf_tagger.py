"""Names of people and places in made sentences: a BiLSTM with a conditional random field written out, span F1."""

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
FILLERS = [f"word{i}" for i in range(60)]
NAMES = [f"name{i}" for i in range(40)]  # each may be a person or a place: the word before tells
TITLES, PREPOSITIONS = ["mr", "mrs", "dr"], ["in", "near", "from"]
VOCABULARY = {word: i + 1 for i, word in enumerate(FILLERS + NAMES + TITLES + PREPOSITIONS)}  # 0 fills up


def make_sentence(rng):
    words, tags = [], []
    for _ in range(rng.integers(2, 5)):
        kind = rng.random()
        if kind < 0.4:
            count = int(rng.integers(1, 4))
            words += rng.choice(FILLERS, count).tolist()
            tags += ["O"] * count
            continue
        cues, label = (TITLES, "PER") if kind < 0.7 else (PREPOSITIONS, "LOC")
        count = int(rng.integers(1, 3))
        words += [str(rng.choice(cues))] + rng.choice(NAMES, count).tolist()
        tags += ["O", f"B-{label}", f"I-{label}"][: 1 + count]
    return words, tags


def make_data(train_count, valid_count, seed=0):
    """Sentences that are all different."""
    rng, found = np.random.default_rng(seed), {}
    while len(found) < train_count + valid_count:
        words, tags = make_sentence(rng)
        found.setdefault(tuple(words), tags)
    encoded = [
        (torch.tensor([VOCABULARY[word] for word in words]), torch.tensor([TAGS.index(tag) for tag in tags]))
        for words, tags in found.items()
    ]
    return encoded[:train_count], encoded[train_count:]


def collate(samples):
    words, tags = zip(*samples)
    lengths = torch.tensor([len(sentence) for sentence in words])
    # tags are filled up with 0, which is "O"; the mask keeps those out of everything
    return pad_sequence(words, batch_first=True), pad_sequence(tags, batch_first=True), lengths


class CRF(nn.Module):
    def __init__(self, tags):
        super().__init__()
        self.start, self.end = nn.Parameter(torch.zeros(tags)), nn.Parameter(torch.zeros(tags))
        self.transitions = nn.Parameter(0.1 * torch.randn(tags, tags))  # from row to column

    def score(self, emissions, tags, mask):
        emitted = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
        moved = self.transitions[tags[:, :-1], tags[:, 1:]]
        last = tags.gather(1, mask.sum(1, keepdim=True) - 1).squeeze(1)
        return self.start[tags[:, 0]] + (emitted * mask).sum(1) + (moved * mask[:, 1:]).sum(1) + self.end[last]

    def log_partition(self, emissions, mask):
        alpha = self.start + emissions[:, 0]
        for t in range(1, emissions.shape[1]):
            paths = alpha.unsqueeze(2) + self.transitions + emissions[:, t].unsqueeze(1)
            alpha = torch.where(mask[:, t, None], paths.logsumexp(1), alpha)
        return (alpha + self.end).logsumexp(1)

    def loss(self, emissions, tags, mask):
        return (self.log_partition(emissions, mask) - self.score(emissions, tags, mask)).mean()

    @torch.no_grad()
    def decode(self, emissions, mask):
        score, back = self.start + emissions[:, 0], []
        stay = torch.arange(emissions.shape[2]).expand_as(score)
        for t in range(1, emissions.shape[1]):
            best, origin = (score.unsqueeze(2) + self.transitions).max(1)
            score = torch.where(mask[:, t, None], best + emissions[:, t], score)
            back.append(torch.where(mask[:, t, None], origin, stay))
        path = [(score + self.end).argmax(1)]
        for origin in reversed(back):
            path.append(origin.gather(1, path[-1].unsqueeze(1)).squeeze(1))
        return torch.stack(path[::-1], 1)


class Tagger(nn.Module):
    def __init__(self, words, tags, width=48, hidden=64):
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=0)
        self.dropout = nn.Dropout(0.2)
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.emit = nn.Linear(2 * hidden, tags)
        self.crf = CRF(tags)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(
            self.dropout(self.embedding(words)), lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=words.shape[1])
        return self.emit(self.dropout(states))


def length_mask(lengths, longest):
    return torch.arange(longest) < lengths.unsqueeze(1)


def spans(tags):
    """(first, behind the last, label) of every name."""
    found, begin = set(), None
    for position, tag in enumerate(tags + ["O"]):
        if begin is not None and tag != f"I-{label}":
            found.add((begin, position, label))
            begin = None
        if tag.startswith("B-"):
            begin, label = position, tag[2:]
    return found


def evaluate(model, loader):
    model.eval()
    loss, right, guessed, true = 0.0, 0, 0, 0
    with torch.no_grad():
        for words, tags, lengths in loader:
            mask = length_mask(lengths, words.shape[1])
            emissions = model(words, lengths)
            loss += model.crf.loss(emissions, tags, mask).item() * len(words)
            paths = model.crf.decode(emissions, mask)
            for path, gold, length in zip(paths.tolist(), tags.tolist(), lengths.tolist()):
                predicted = spans([TAGS[tag] for tag in path[:length]])
                actual = spans([TAGS[tag] for tag in gold[:length]])
                right, guessed, true = right + len(predicted & actual), guessed + len(predicted), true + len(actual)
    return loss / len(loader.dataset), 2 * right / max(1, guessed + true)


def main():
    torch.manual_seed(0)
    train_data, valid_data = make_data(2400, 400)
    train_loader = DataLoader(train_data, batch_size=32, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_data, batch_size=64, collate_fn=collate)
    model = Tagger(len(VOCABULARY) + 1, len(TAGS))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(16):
        model.train()
        total = 0.0
        for words, tags, lengths in train_loader:
            loss = model.crf.loss(model(words, lengths), tags, length_mask(lengths, words.shape[1]))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            total += loss.item() * len(words)
        valid_loss, f1 = evaluate(model, valid_loader)
        print(f"epoch {epoch + 1:2d} nll {total / len(train_data):.4f} valid {valid_loss:.4f} F1 {f1:.4f}", flush=True)


if __name__ == "__main__":
    main()
