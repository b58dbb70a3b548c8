"""Decimal to Roman numerals, letter by letter: attention, and teachers who let go (scheduled sampling)."""
import math
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PAD, BEGIN, END = 0, 1, 2
LETTERS = "IVXLCDM"
LONGEST = 16  # MMMDCCCLXXXVIII and an end


def roman(number):
    parts = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL")]
    parts += [(10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
    text = ""
    for value, letters in parts:
        while number >= value:
            text, number = text + letters, number - value
    return text


def encode(numbers):
    sources = torch.tensor([[int(digit) for digit in f"{number:04d}"] for number in numbers])
    targets = torch.full((len(numbers), LONGEST), PAD)
    for row, number in enumerate(numbers):
        codes = [LETTERS.index(letter) + 3 for letter in roman(number)] + [END]
        targets[row, : len(codes)] = torch.tensor(codes)
    return TensorDataset(sources, targets)


class Translator(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        self.digits = nn.Embedding(10, width)
        self.encoder = nn.GRU(width, width // 2, bidirectional=True, batch_first=True)
        self.letters = nn.Embedding(len(LETTERS) + 3, width)
        self.cell = nn.GRUCell(2 * width, width)
        self.query = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(2 * width, len(LETTERS) + 3)

    def forward(self, sources, targets=None, teacher=0.0):
        """With targets their right letter is fed with the probability `teacher`, else the one just said."""
        memory, last = self.encoder(self.digits(sources))
        hidden = torch.cat([last[0], last[1]], 1)
        letter = torch.full((len(sources),), BEGIN)
        context = memory.mean(1)
        steps = []
        for t in range(LONGEST):
            hidden = self.cell(torch.cat([self.letters(letter), context], 1), hidden)
            weights = torch.einsum("bd,bsd->bs", self.query(hidden), memory).div(memory.shape[2] ** 0.5).softmax(1)
            context = torch.einsum("bs,bsd->bd", weights, memory)
            logits = self.output(torch.cat([hidden, context], 1))
            steps.append(logits)
            letter = logits.argmax(1)
            if targets is not None:
                follow = torch.rand(len(sources)) < teacher
                letter = torch.where(follow, targets[:, t], letter)
        return torch.stack(steps, 1)


def exact_matches(model, loader):
    """Greedy, without a teacher; what comes after the end doesn't count."""
    model.eval()
    right = total = 0
    with torch.no_grad():
        for sources, targets in loader:
            guess = model(sources).argmax(2)
            right += ((guess == targets) | (targets == PAD)).all(1).sum().item()
            total += len(sources)
    return right / total


def main(epochs=16):
    torch.manual_seed(20)
    torch.set_num_threads(1)
    numbers = list(range(1, 4000))
    random.Random(20).shuffle(numbers)
    train_loader = DataLoader(encode(numbers[700:]), batch_size=64, shuffle=True)
    valid_loader = DataLoader(encode(numbers[:700]), batch_size=100)
    model = Translator()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train_loader), eta_min=1e-4)
    for epoch in range(epochs):
        teacher = 6 / (6 + math.exp(epoch / 6))
        model.train()
        total = count = 0
        for sources, targets in train_loader:
            logits = model(sources, targets, teacher)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            letters = (targets != PAD).sum().item()
            total += loss.item() * letters
            count += letters
        print(f"epoch {epoch:2d} teacher {teacher:.2f} loss {total / count:.4f} exact {exact_matches(model, valid_loader):.3f}")


main()
