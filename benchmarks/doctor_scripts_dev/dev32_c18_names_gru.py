"""Which language is a word of? Words of four made languages, packed sequences, a bidirectional GRU."""

import numpy as np
import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

LETTERS = "abcdefghijklmnop"
PAD = 0


class Languages:
    """A language is a table of which letter follows which."""

    def __init__(self, count=4, seed=0):
        rng = np.random.default_rng(seed)
        self.tables = rng.dirichlet(np.full(len(LETTERS), 0.25), size=(count, len(LETTERS)))

    def words(self, count, seed):
        rng = np.random.default_rng(seed)
        rows = []
        for _ in range(count):
            language = int(rng.integers(len(self.tables)))
            letters = [int(rng.integers(len(LETTERS)))]
            for _ in range(int(rng.integers(6, 16))):
                letters.append(int(rng.choice(len(LETTERS), p=self.tables[language, letters[-1]])))
            rows.append(("".join(LETTERS[i] for i in letters), language))
        return rows


class Words(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        word, language = self.rows[index]
        return torch.tensor([1 + LETTERS.index(letter) for letter in word]), language


def collate(batch):
    words, languages = zip(*batch)
    lengths = torch.tensor([len(word) for word in words])
    return pad_sequence(words, batch_first=True, padding_value=PAD), lengths, torch.tensor(languages)


class GRUClassifier(nn.Module):
    def __init__(self, vocab, classes, embedding=24, hidden=48):
        super().__init__()
        self.embed = nn.Embedding(vocab, embedding, padding_idx=PAD)
        self.gru = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(2 * hidden, classes)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.embed(words), lengths, batch_first=True, enforce_sorted=False)
        _, hidden = self.gru(packed)
        return self.fc(self.dropout(torch.cat([hidden[0], hidden[1]], dim=1)))


def evaluate(model, loader, criterion):
    model.eval()
    loss, correct, seen = 0.0, 0, 0
    with torch.no_grad():
        for words, lengths, languages in loader:
            logits = model(words, lengths)
            loss += criterion(logits, languages).item() * len(languages)
            correct += (logits.argmax(1) == languages).sum().item()
            seen += len(languages)
    return loss / seen, correct / seen


def main():
    torch.manual_seed(0)
    languages = Languages()
    train_rows = languages.words(2400, seed=1)
    known = {word for word, _ in train_rows}
    val_rows = [row for row in languages.words(500, seed=2) if row[0] not in known]
    train_loader = DataLoader(Words(train_rows), batch_size=48, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(Words(val_rows), batch_size=128, collate_fn=collate)
    model = GRUClassifier(len(LETTERS) + 1, len(languages.tables))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, 15):
        model.train()
        for words, lengths, targets in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(words, lengths), targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
        val_loss, accuracy = evaluate(model, val_loader, criterion)
        print(f"Epoch {epoch:02d} | train {loss.item():.4f} | val {val_loss:.4f} | accuracy {100 * accuracy:.1f}%")


if __name__ == "__main__":
    main()
