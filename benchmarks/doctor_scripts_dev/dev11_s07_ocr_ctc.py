"""Reading numbers of two to five digits from a strip of an image: CRNN with CTC."""

import argparse
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

ALPHABET = "0123456789"


class StringConverter:
    """Text to indices and back; index 0 is CTC's blank."""

    def __init__(self, alphabet):
        self.alphabet = alphabet
        self.index = {char: i + 1 for i, char in enumerate(alphabet)}

    def encode(self, text):
        return torch.tensor([self.index[char] for char in text])

    def decode(self, indices):
        """Greedy: repeats and blanks are dropped."""
        chars, previous = [], 0
        for index in indices:
            if index != previous and index != 0:
                chars.append(self.alphabet[index - 1])
            previous = index
        return "".join(chars)


class NumberStrips(Dataset):
    width = 56

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        glyphs, labels = draw_digits(count * 5, size=16, seed=seed, noise=0.0, shift=1)
        self.images, self.texts = [], []
        for i in range(count):
            length = int(torch.randint(2, 6, (1,), generator=generator))
            strip = torch.zeros(1, 16, self.width)
            left = int(torch.randint(0, self.width - 10 * length + 1, (1,), generator=generator))
            for j in range(length):
                strip[:, :, left + 10 * j : left + 10 * j + 10] = glyphs[i * 5 + j][:, :, 3:13].float() / 255
            strip = strip + 0.1 * torch.randn(strip.shape, generator=generator)
            self.images.append((strip - 0.2) / 0.35)
            self.texts.append("".join(ALPHABET[d] for d in labels[i * 5 : i * 5 + length].tolist()))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.texts[index]


class Collate:
    def __init__(self, converter):
        self.converter = converter

    def __call__(self, batch):
        images, texts = zip(*batch)
        encoded = [self.converter.encode(t) for t in texts]
        lengths = torch.tensor([len(e) for e in encoded])
        targets = torch.zeros(len(batch), int(lengths.max()), dtype=torch.long)
        for row, indices in zip(targets, encoded):
            row[: len(indices)] = indices
        return torch.stack(images), targets, lengths, texts


class CRNN(nn.Module):
    def __init__(self, classes, hidden=40, dropout=0.1):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d((2, 1)),
            nn.Conv2d(32, 48, (4, 3), padding=(0, 1)), nn.BatchNorm2d(48), nn.ReLU(),
        )
        self.dropout = nn.Dropout(dropout)
        self.rnn = nn.GRU(48, hidden, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, classes)

    def forward(self, x):
        features = self.cnn(x)  # N, C, 1, W
        sequence = features.squeeze(2).permute(2, 0, 1)  # W, N, C
        sequence, _ = self.rnn(self.dropout(sequence))
        return self.fc(sequence)  # T, N, classes


def ctc(logits, targets, target_lengths):
    log_probs = F.log_softmax(logits, dim=2)
    input_lengths = torch.full((logits.size(1),), logits.size(0), dtype=torch.long)
    return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, zero_infinity=True)


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


@torch.no_grad()
def evaluate(model, loader, converter):
    model.eval()
    exact = errors = chars = 0
    for images, _, _, texts in loader:
        best = model(images).argmax(2)  # T, N
        for n, text in enumerate(texts):
            read = converter.decode(best[:, n].tolist())
            exact += read == text
            errors += edit_distance(read, text)
            chars += len(text)
    return exact / len(loader.dataset), errors / chars


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--train-size", type=int, default=800)
    opt = parser.parse_args()
    torch.manual_seed(11)

    converter = StringConverter(ALPHABET)
    collate = Collate(converter)
    train_loader = DataLoader(
        NumberStrips(opt.train_size, seed=100), opt.batch_size, shuffle=True, collate_fn=collate, drop_last=True
    )
    val_loader = DataLoader(NumberStrips(200, seed=200), 40, collate_fn=collate)
    model = CRNN(classes=len(ALPHABET) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=opt.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=opt.epochs * len(train_loader))

    folder = tempfile.mkdtemp(prefix="crnn_")
    best_cer = 10.0
    for epoch in range(opt.epochs):
        model.train()
        total = 0.0
        for images, targets, lengths, _ in train_loader:
            loss = ctc(model(images), targets, lengths)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), opt.clip)
            optimizer.step()
            scheduler.step()
            total += loss.item()
        accuracy, cer = evaluate(model, val_loader, converter)
        print(f"[{epoch + 1}/{opt.epochs}] loss {total / len(train_loader):.4f}  exact {accuracy:.3f}  CER {cer:.3f}")
        if cer < best_cer:
            best_cer = cer
            torch.save(model.state_dict(), os.path.join(folder, "netCRNN.pth"))
    model.load_state_dict(torch.load(os.path.join(folder, "netCRNN.pth")))
    accuracy, cer = evaluate(model, val_loader, converter)
    print(f"best checkpoint: exact {accuracy:.3f}, CER {cer:.3f}")


if __name__ == "__main__":
    main()
