"""Slot filling with a bidirectional LSTM: packed sequences, padded tags left out of loss and accuracy."""

import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

random.seed(5)
torch.manual_seed(5)

CITIES = "paris rome oslo tokyo lima cairo delhi boston berlin madrid".split()
DAYS = "monday tuesday friday sunday tomorrow".split()
OPENERS = ["i want to fly", "please book a seat", "show me flights", "is there a cheap ticket", "we travel"]
FILLERS = ["if possible", "with my family", "by plane", "as soon as you can", "for two people"]
TAGS = ["O", "FROM", "TO", "DATE"]
PAD_TAG = -100


def make_sentence(rng):
    """The tag of a city hangs on the word before it, or two before it."""
    parts = [
        [("from", "O"), (rng.choice(CITIES), "FROM")] if rng.random() < 0.5 else [("leaving", "O"), ("lovely", "O"), (rng.choice(CITIES), "FROM")],
        [("to", "O"), (rng.choice(CITIES), "TO")] if rng.random() < 0.5 else [("towards", "O"), ("lovely", "O"), (rng.choice(CITIES), "TO")],
        [("on", "O"), (rng.choice(DAYS), "DATE")],
        [(word, "O") for word in rng.choice(FILLERS).split()],
    ]
    rng.shuffle(parts)
    parts = parts[: rng.randint(2, 4)]
    tokens = [(word, "O") for word in rng.choice(OPENERS).split()] + [pair for part in parts for pair in part]
    return [word for word, _ in tokens], [tag for _, tag in tokens]


rng = random.Random(0)
train_sentences = [make_sentence(rng) for _ in range(2000)]
known = {" ".join(words) for words, _ in train_sentences}
val_sentences = [s for s in (make_sentence(rng) for _ in range(900)) if " ".join(s[0]) not in known]
vocabulary = {"<pad>": 0, "<unk>": 1}
for words, _ in train_sentences:
    for word in words:
        vocabulary.setdefault(word, len(vocabulary))


def encode(sentence):
    words, tags = sentence
    return torch.tensor([vocabulary.get(w, 1) for w in words]), torch.tensor([TAGS.index(t) for t in tags])


def collate(batch):
    words, tags = zip(*batch)
    lengths = torch.tensor([len(w) for w in words])
    return (
        pad_sequence(words, batch_first=True, padding_value=0),
        pad_sequence(tags, batch_first=True, padding_value=PAD_TAG),
        lengths,
    )


train_iterator = DataLoader([encode(s) for s in train_sentences], batch_size=32, shuffle=True, collate_fn=collate)
val_iterator = DataLoader([encode(s) for s in val_sentences], batch_size=100, collate_fn=collate)


class BiLSTMTagger(nn.Module):
    def __init__(self, vocab_size, embedding_dim=48, hidden_dim=64, output_dim=len(TAGS)):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(2 * hidden_dim, output_dim)
        self.dropout = nn.Dropout(0.25)

    def forward(self, text, lengths):
        embedded = self.dropout(self.embedding(text))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = self.lstm(packed)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True)
        return self.fc(self.dropout(outputs))


def train(model, iterator, optimizer, criterion):
    model.train()
    epoch_loss, tokens = 0.0, 0
    for text, tags, lengths in iterator:
        optimizer.zero_grad()
        predictions = model(text, lengths)
        loss = criterion(predictions.reshape(-1, len(TAGS)), tags.reshape(-1))
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item() * int(lengths.sum())
        tokens += int(lengths.sum())
    return epoch_loss / tokens


@torch.no_grad()
def evaluate(model, iterator):
    """Accuracy of all tags, of tags that are slots, and of whole sentences."""
    model.eval()
    right, tokens, right_slots, slots, whole, sentences = 0, 0, 0, 0, 0, 0
    for text, tags, lengths in iterator:
        guess = model(text, lengths).argmax(dim=-1)
        real, slot = tags != PAD_TAG, tags > 0
        hit = guess == tags
        right, tokens = right + (hit & real).sum().item(), tokens + real.sum().item()
        right_slots, slots = right_slots + (hit & slot).sum().item(), slots + slot.sum().item()
        whole, sentences = whole + (hit | ~real).all(dim=1).sum().item(), sentences + len(tags)
    return right / tokens, right_slots / slots, whole / sentences


model = BiLSTMTagger(len(vocabulary))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
criterion = nn.CrossEntropyLoss(ignore_index=PAD_TAG)
for epoch in range(14):
    train_loss = train(model, train_iterator, optimizer, criterion)
    accuracy, slot_accuracy, exact = evaluate(model, val_iterator)
    print(f"Epoch {epoch + 1:02d} | train loss {train_loss:.4f} | val acc {accuracy:.4f} | slots {slot_accuracy:.4f} | sentences {exact:.4f}")
