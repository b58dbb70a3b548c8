"""Intents of a travel desk: bidirectional GRU on packed sequences."""
import random
from collections import Counter

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader

PAD, UNK = 0, 1
CITIES = "oslo bergen malmo aarhus turku tampere lund visby odense espoo bodo narvik".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday today tomorrow".split()
HOURS = "six seven eight nine ten eleven noon".split()
OPENINGS = ["please", "hello", "hi there", "excuse me", "well", "could you tell me", "i was wondering", "um", "so"]
TEMPLATES = {
    "book": ["i want a ticket from {a} to {b} on {d}", "book me a seat to {b} for {d} at {h}", "reserve two places {a} {b} {d}"],
    "cancel": ["i do not want my ticket to {b} any more", "cancel my seat from {a} on {d}", "drop the {d} trip to {b} at {h}"],
    "change": ["move my ticket from {d} to {e}", "i want to go at {h} on {e} not on {d}", "change my seat to {b} from {d} to {e}"],
    "time": ["when does the train to {b} leave on {d}", "at what hour do i arrive in {b} from {a}", "is there a train from {a} at {h} on {d}"],
    "price": ["how much is a ticket from {a} to {b}", "what does a seat to {b} cost on {d}", "is it cheaper to go to {b} on {e} or {d}"],
    "lost": ["i left my bag on the train to {b} on {d}", "my coat is still on the {h} train from {a}", "did you find a hat in the {d} train to {b}"],
}
INTENTS = list(TEMPLATES)


def utterances(count, rng):
    found = {}
    while len(found) < count:
        intent = rng.choice(INTENTS)
        a, b = rng.sample(CITIES, 2)
        d, e = rng.sample(DAYS, 2)
        sentence = rng.choice(TEMPLATES[intent]).format(a=a, b=b, d=d, e=e, h=rng.choice(HOURS))
        words = (rng.choice(OPENINGS) + " " + sentence).split()
        if rng.random() < 0.3:
            words.pop(rng.randrange(len(words)))  # people swallow words
        found[" ".join(words)] = INTENTS.index(intent)
    return list(found.items())  # no sentence twice


class Vocabulary:
    def __init__(self, sentences, at_least=2):
        counts = Counter(word for sentence in sentences for word in sentence.split())
        self.words = ["<pad>", "<unk>"] + sorted(w for w, c in counts.items() if c >= at_least)
        self.index = {w: i for i, w in enumerate(self.words)}

    def encode(self, sentence):
        return torch.tensor([self.index.get(w, UNK) for w in sentence.split()])


class IntentClassifier(nn.Module):
    def __init__(self, vocabulary, embedding=32, hidden=48, classes=len(INTENTS)):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.dropout = nn.Dropout(0.3)
        self.gru = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, classes)

    def forward(self, tokens, lengths):
        embedded = self.dropout(self.embedding(tokens))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, hidden = self.gru(packed)
        return self.fc(self.dropout(torch.cat([hidden[0], hidden[1]], dim=1)))


def main():
    rng = random.Random(1234)
    torch.manual_seed(1234)
    examples = utterances(3200, rng)
    rng.shuffle(examples)
    train_set, valid_set = examples[:2600], examples[2600:]
    vocabulary = Vocabulary([sentence for sentence, _ in train_set])

    def collate(batch):
        tokens = [vocabulary.encode(sentence) for sentence, _ in batch]
        lengths = torch.tensor([len(t) for t in tokens])
        labels = torch.tensor([label for _, label in batch])
        return pad_sequence(tokens, batch_first=True, padding_value=PAD), lengths, labels

    train_iter = DataLoader(train_set, batch_size=32, shuffle=True, collate_fn=collate)
    valid_iter = DataLoader(valid_set, batch_size=100, collate_fn=collate)
    model = IntentClassifier(len(vocabulary.words))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    print(f"{len(vocabulary.words)} words, {sum(p.numel() for p in model.parameters()):,} parameters")

    for epoch in range(8):
        model.train()
        epoch_loss, n = 0.0, 0
        for tokens, lengths, labels in train_iter:
            optimizer.zero_grad()
            loss = criterion(model(tokens, lengths), labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            epoch_loss, n = epoch_loss + loss.item() * len(labels), n + len(labels)
        model.eval()
        correct = 0
        with torch.no_grad():
            for tokens, lengths, labels in valid_iter:
                correct += (model(tokens, lengths).argmax(1) == labels).sum().item()
        print(f"Epoch: {epoch + 1:02} | Train Loss: {epoch_loss / n:.4f} | Val. Acc: {100 * correct / len(valid_set):.2f}%")


if __name__ == "__main__":
    main()
