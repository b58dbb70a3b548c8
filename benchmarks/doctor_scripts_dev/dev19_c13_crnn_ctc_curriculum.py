"""CRNN + CTC: reads rows of digits of unknown places. A curriculum: short strings first, longer ones as training goes on."""

import math

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

from toydata import FONT

WIDTH, HEIGHT, BLANK = 64, 16, 0
GLYPHS = [torch.tensor([[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in rows]).float().repeat_interleave(2, 0).repeat_interleave(2, 1) for rows in FONT]


def render(digits, generator):
    """The digits from left to right with gaps of two to four columns, each a little up or down."""
    image = torch.zeros(1, HEIGHT, WIDTH)
    left = int(torch.randint(1, 6, (1,), generator=generator))
    for d in digits:
        top = int(torch.randint(1, 6, (1,), generator=generator))
        image[0, top : top + 10, left : left + 6] = GLYPHS[d] * (0.7 + 0.3 * torch.rand((), generator=generator))
        left += 6 + int(torch.randint(2, 5, (1,), generator=generator))
    image = image + 0.1 * torch.randn(image.shape, generator=generator)
    return (image.clamp(0, 1) - 0.2) / 0.33


class Strings(Dataset):
    def __init__(self, count, seed, longest=5):
        self.generator = torch.Generator().manual_seed(seed)
        self.samples = []
        for _ in range(count):
            length = int(torch.randint(1, longest + 1, (1,), generator=self.generator))
            digits = torch.randint(0, 10, (length,), generator=self.generator).tolist()
            self.samples.append((render(digits, self.generator), torch.tensor(digits) + 1))  # 0 is the blank

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


def collate(batch):
    images, labels = zip(*batch)
    return torch.stack(images), torch.cat(labels), torch.tensor([len(label) for label in labels])


class CRNN(nn.Module):
    def __init__(self, classes=11, hidden=48):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.MaxPool2d((2, 1)),
            nn.Conv2d(32, 48, (4, 3), padding=(0, 1), bias=False),
            nn.BatchNorm2d(48),
            nn.ReLU(inplace=True),
        )
        self.rnn = nn.LSTM(48, hidden, bidirectional=True)
        self.embedding = nn.Linear(2 * hidden, classes)

    def forward(self, x):
        features = self.cnn(x).squeeze(2).permute(2, 0, 1)  # width, batch, channels
        output, _ = self.rnn(features)
        return self.embedding(output)


def decode(logits):
    """Best path: drop repetitions, then blanks."""
    texts = []
    for path in logits.argmax(2).T.tolist():
        text, last = [], BLANK
        for c in path:
            if c != last and c != BLANK:
                text.append(c)
            last = c
        texts.append(text)
    return texts


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, ca in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, cb in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (ca != cb))
    return row[-1]


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    errors = chars = exact = strings = 0
    for images, labels, lengths in loader:
        for guess, truth in zip(decode(model(images)), labels.split(lengths.tolist())):
            distance = edit_distance(guess, truth.tolist())
            errors, chars = errors + distance, chars + len(truth)
            exact, strings = exact + (distance == 0), strings + 1
    return errors / chars, exact / strings


def main():
    torch.manual_seed(8)
    epochs, count, batch = 20, 1280, 32
    test_loader = DataLoader(Strings(300, seed=900), batch_size=100, collate_fn=collate)
    model = CRNN()
    criterion = nn.CTCLoss(blank=BLANK, zero_infinity=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    steps = epochs * (count // batch)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 40) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * s / steps))))
    for epoch in range(epochs):
        longest = min(5, 2 + epoch // 3)
        # fresh strings for each epoch
        train_loader = DataLoader(Strings(count, seed=epoch, longest=longest), batch_size=batch, shuffle=True, collate_fn=collate)
        model.train()
        total = 0.0
        for images, labels, lengths in train_loader:
            log_probs = model(images).log_softmax(2)
            input_lengths = torch.full((len(images),), log_probs.size(0), dtype=torch.long)
            loss = criterion(log_probs, labels, input_lengths, lengths)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()
            total += loss.item()
        cer, exact = evaluate(model, test_loader)
        print(f"epoch {epoch + 1:2d} up to {longest} digits | loss {total / len(train_loader):.3f} | test CER {cer:.3f} exact {exact:.3f}")


if __name__ == "__main__":
    main()
