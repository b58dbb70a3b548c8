"""Named entities with a BiLSTM tagger and Accelerate: packed rows, -100 for padding, class weights, accumulation, entity F1."""

import random

import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
TAG_ID = {t: i for i, t in enumerate(TAGS)}
FIRST = "anna boris clara david elena felix greta hugo iris jonas karin louis maria nils olga peter".split()
LAST = "adler berg costa dumont ericson fischer green hansen ivanov jordan keller lopez".split()
# some words may be of several kinds: only those around them tell
AMBIGUOUS = "jordan paris chelsea virginia washington austin florence sydney lincoln carter ford hudson".split()
PLACES = "berlin oslo madrid vienna lisbon prague geneva dublin".split()
FIRMS = "acme globex initech umbrella stark wayne hooli".split()
SUFFIX = "bank motors labs group union".split()
FILL = "yesterday often never quickly again today later".split()


def person(rng):
    names = [rng.choice(FIRST + 2 * AMBIGUOUS)] + ([rng.choice(LAST)] if rng.random() < 0.5 else [])
    return names, "PER"


def place(rng):
    names = rng.choice([["new", rng.choice(["york", "delhi"])], ["san", rng.choice(["jose", "marino"])], [rng.choice(AMBIGUOUS)], [rng.choice(PLACES)]])
    return names, "LOC"


def firm(rng):
    names = [rng.choice(FIRMS + AMBIGUOUS)] + ([rng.choice(SUFFIX)] if rng.random() < 0.5 else [])
    return names, "ORG"


def one_of(*words):
    return lambda rng: ([rng.choice(words)], None)


animal, thing = one_of("cat", "dog", "fox", "hen", "goat", "horse"), one_of("table", "tree", "bridge", "roof", "bench", "bed")
number = one_of("two", "three", "four", "five", "six", "seven", "eight")
TEMPLATES = [
    [person, "lives", "in", place],
    [person, "works", "for", firm, "in", place],
    ["the", "office", "of", firm, "in", place, "was", "closed"],
    [person, "met", person, "at", "the", "station"],
    [firm, "bought", firm, "for", "a", "lot", "of", "money"],
    ["it", "rained", "in", place, "and", person, "stayed", "at", "home"],
    ["the", animal, "slept", "under", "the", thing, "for", number, "hours"],
]


def sentence(rng):
    words, tags = [], []
    for part in rng.choice(TEMPLATES):
        if isinstance(part, str):
            names, kind = [part], None
        else:
            names, kind = part(rng)
        words += names
        tags += ["O"] if kind is None else [f"B-{kind}"] + [f"I-{kind}"] * (len(names) - 1)
        if rng.random() < 0.12:
            words.append(rng.choice(FILL))
            tags.append("O")
    return words, tags


def build(train_count, val_count, seed):
    """Each sentence once; the vocabulary is that of the training part."""
    rng, rows = random.Random(seed), {}
    while len(rows) < train_count + val_count:
        words, tags = sentence(rng)
        rows[" ".join(words)] = (words, tags)
    rows = list(rows.values())
    rng.shuffle(rows)
    vocab = {"<pad>": 0, "<unk>": 1}
    for words, _ in rows[:train_count]:
        for w in words:
            vocab.setdefault(w, len(vocab))
    data = [(torch.tensor([vocab.get(w, 1) for w in words]), torch.tensor([TAG_ID[t] for t in tags])) for words, tags in rows]
    return data[:train_count], data[train_count:], vocab


def collate(batch):
    ids, tags = zip(*batch)
    lengths = torch.tensor([len(i) for i in ids])
    return {
        "input_ids": nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=0),
        "labels": nn.utils.rnn.pad_sequence(tags, batch_first=True, padding_value=-100),
        "lengths": lengths,
    }


class BiLSTMTagger(nn.Module):
    def __init__(self, vocab_size, emb=32, hidden=48, word_dropout=0.03):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, emb, padding_idx=0)
        self.word_dropout, self.dropout = word_dropout, nn.Dropout(0.2)
        self.lstm = nn.LSTM(emb, hidden, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * hidden, len(TAGS))

    def forward(self, input_ids, lengths):
        if self.training:  # some words become <unk>, so that it has an embedding too
            drop = (torch.rand(input_ids.shape) < self.word_dropout) & (input_ids != 0)
            input_ids = input_ids.masked_fill(drop, 1)
        packed = pack_padded_sequence(self.dropout(self.embedding(input_ids)), lengths.cpu(), batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=input_ids.size(1))
        return self.classifier(self.dropout(output))


def entities(tags):
    found, start = set(), None
    for i, tag in enumerate(tags + ["O"]):
        if start is not None and (tag == "O" or tag[0] == "B" or tag[2:] != tags[start][2:]):
            found.add((start, i, tags[start][2:]))
            start = None
        if tag[0] == "B":
            start = i
    return found


@torch.no_grad()
def evaluate(model, loader, accelerator):
    model.eval()
    tp = fp = fn = 0
    for batch in loader:
        guess = model(batch["input_ids"], batch["lengths"]).argmax(-1)
        guess, labels, lengths = accelerator.gather_for_metrics((guess, batch["labels"], batch["lengths"]))
        for g, t, n in zip(guess.tolist(), labels.tolist(), lengths.tolist()):
            a, b = entities([TAGS[i] for i in g[:n]]), entities([TAGS[i] for i in t[:n]])
            tp, fp, fn = tp + len(a & b), fp + len(a - b), fn + len(b - a)
    return 2 * tp / max(2 * tp + fp + fn, 1)


def main():
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    set_seed(0)
    train_data, val_data, vocab = build(3600, 400, seed=1)
    counts = torch.bincount(torch.cat([t for _, t in train_data]), minlength=len(TAGS)).float()
    weights = (counts.sum() / counts).sqrt()
    criterion = nn.CrossEntropyLoss(weight=weights / weights.mean(), ignore_index=-100)

    epochs = 12
    model = BiLSTMTagger(len(vocab))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    train_loader = DataLoader(train_data, batch_size=16, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(val_data, batch_size=100, collate_fn=collate)
    steps = epochs * len(train_loader) // 2
    scheduler = LambdaLR(optimizer, lambda s: min((s + 1) / 50, max(0.0, (steps - s) / (steps - 50))))
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(model, optimizer, train_loader, val_loader, scheduler)

    for epoch in range(epochs):
        model.train()
        total = 0.0
        for batch in train_loader:
            with accelerator.accumulate(model):
                logits = model(batch["input_ids"], batch["lengths"])
                loss = criterion(logits.flatten(0, 1), batch["labels"].flatten())
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total += loss.detach().item()
        accelerator.print(f"epoch {epoch:2d} loss {total / len(train_loader):.4f} entity F1 {evaluate(model, val_loader, accelerator):.4f}")


if __name__ == "__main__":
    main()
