"""CTC speech recognition on generated utterances: each letter is a short pattern over mel bands."""
import argparse
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

LETTERS = "abcdefgh"
BLANK = 0


class TextTransform:
    """Characters to integers and back; zero is the blank."""

    def __init__(self):
        self.char_map = {c: i + 1 for i, c in enumerate(LETTERS)}
        self.index_map = {i: c for c, i in self.char_map.items()}

    def text_to_int(self, text):
        return [self.char_map[c] for c in text]

    def int_to_text(self, labels):
        return "".join(self.index_map[int(i)] for i in labels)


class Utterances(Dataset):
    def __init__(self, n, seed, bands=20):
        rng = np.random.default_rng(seed)
        voice = np.random.default_rng(99).gamma(1.0, 1.0, (len(LETTERS), bands))
        self.items = []
        for _ in range(n):
            text = "".join(rng.choice(list(LETTERS), rng.integers(3, 8)))
            frames = [np.zeros((rng.integers(2, 5), bands))]
            for c in text:
                length = rng.integers(5, 10)
                envelope = np.sin(np.pi * (np.arange(length) + 1) / (length + 1))[:, None]
                frames.append(envelope * voice[LETTERS.index(c)])
                frames.append(np.zeros((rng.integers(1, 4), bands)))
            spec = np.concatenate(frames) + 0.25 * np.abs(rng.normal(size=(sum(map(len, frames)), bands)))
            self.items.append((np.log(spec + 0.1).astype(np.float32), text))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def collate(batch, transform):
    specs = [torch.from_numpy(s) for s, _ in batch]
    labels = [torch.tensor(transform.text_to_int(t)) for _, t in batch]
    input_lengths = torch.tensor([len(s) // 2 for s in specs])
    label_lengths = torch.tensor([len(l) for l in labels])
    specs = nn.utils.rnn.pad_sequence(specs, batch_first=True, padding_value=-2.3)
    labels = nn.utils.rnn.pad_sequence(labels, batch_first=True)
    return specs, labels, input_lengths, label_lengths


class SpeechModel(nn.Module):
    def __init__(self, bands=20, hidden=48, n_class=len(LETTERS) + 1):
        super().__init__()
        self.conv = nn.Conv1d(bands, hidden, 5, stride=2, padding=2)
        self.norm = nn.LayerNorm(hidden)
        self.rnn = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(2 * hidden, n_class)

    def forward(self, x):
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        x = F.gelu(self.norm(x))
        x, _ = self.rnn(x)
        return self.classifier(self.dropout(x))


def greedy_decode(log_probs, lengths, transform):
    """Best path: collapse repeats, then drop blanks."""
    texts = []
    for row, n in zip(log_probs.argmax(2), lengths):
        path = torch.unique_consecutive(row[:n])
        texts.append(transform.int_to_text(path[path != BLANK]))
    return texts


def levenshtein(a, b):
    prev = list(range(len(b) + 1))
    for i, ca in enumerate(a, 1):
        cur = [i]
        for j, cb in enumerate(b, 1):
            cur.append(min(prev[j] + 1, cur[-1] + 1, prev[j - 1] + (ca != cb)))
        prev = cur
    return prev[-1]


def train(model, device, train_loader, criterion, optimizer, scheduler, epoch):
    model.train()
    total = 0.0
    for spectrograms, labels, input_lengths, label_lengths in train_loader:
        spectrograms, labels = spectrograms.to(device), labels.to(device)
        optimizer.zero_grad()
        output = model(spectrograms)
        output = F.log_softmax(output, dim=2)
        output = output.transpose(0, 1)
        loss = criterion(output, labels, input_lengths, label_lengths)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        scheduler.step()
        total += loss.item()
    print(f"Train Epoch: {epoch} loss {total / len(train_loader):.4f} lr {scheduler.get_last_lr()[0]:.5f}")


def test(model, device, test_loader, transform):
    model.eval()
    errors, count = 0, 0
    with torch.no_grad():
        for spectrograms, labels, input_lengths, label_lengths in test_loader:
            output = F.log_softmax(model(spectrograms.to(device)), dim=2)
            decoded = greedy_decode(output.cpu(), input_lengths, transform)
            for text, label, n in zip(decoded, labels, label_lengths):
                truth = transform.int_to_text(label[:n])
                errors += levenshtein(truth, text)
                count += len(truth)
    print(f"Test set: Average CER: {errors / count:.4f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning_rate", type=float, default=8e-3)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    torch.manual_seed(7)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    transform = TextTransform()
    train_set, test_set = Utterances(1200, seed=0), Utterances(200, seed=1)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, collate_fn=lambda b: collate(b, transform))
    test_loader = DataLoader(test_set, batch_size=100, shuffle=False, collate_fn=lambda b: collate(b, transform))
    model = SpeechModel().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
    criterion = nn.CTCLoss(blank=BLANK, zero_infinity=True).to(device)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.learning_rate, steps_per_epoch=len(train_loader), epochs=args.epochs, anneal_strategy="linear")
    for epoch in range(1, args.epochs + 1):
        train(model, device, train_loader, criterion, optimizer, scheduler, epoch)
        test(model, device, test_loader, transform)
        torch.save(model.state_dict(), os.path.join(tempfile.gettempdir(), "ctc.pt"))


if __name__ == "__main__":
    main()
