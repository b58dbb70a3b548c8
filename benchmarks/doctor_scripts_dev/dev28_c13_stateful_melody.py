"""A language model of melodies: streams read in order, states carried on (truncated BPTT), weights tied."""
import math

import torch
import torch.nn.functional as F
from torch import nn

NOTES = 24


def compose(length, seed):
    """The next note is a step from the last; which steps are likely depends on the note before it."""
    steps = torch.tensor([[1, -2, 5, 7], [-1, 3, 4, -5], [2, -3, 7, 12], [-2, 1, -7, 5]])
    likely = torch.tensor([0.6, 0.25, 0.1, 0.05])
    generator = torch.Generator().manual_seed(seed)
    choices = torch.multinomial(likely, length, replacement=True, generator=generator).tolist()
    before, last, notes = 0, 7, []
    for choice in choices:
        before, last = last, (last + int(steps[before % 4, choice])) % NOTES
        notes.append(last)
    return torch.tensor(notes)


def streams(notes, rows):
    """Rows of consecutive notes: column t + 1 follows column t."""
    columns = len(notes) // rows
    return notes[: rows * columns].view(rows, columns).t().contiguous()


class Melody(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.embed = nn.Embedding(NOTES, width)
        self.lstm = nn.LSTM(width, width)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(width, NOTES)
        self.head.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=0.15)
        nn.init.zeros_(self.head.bias)

    def forward(self, notes, state):
        hidden, state = self.lstm(self.embed(notes), state)
        return self.head(self.drop(hidden)), state


def segments(data, length, offset=0):
    for start in range(offset, len(data) - 1, length):
        stop = min(start + length, len(data) - 1)
        yield data[start:stop], data[start + 1 : stop + 1]


def evaluate(model, data, length):
    model.eval()
    state, total, count = None, 0.0, 0
    with torch.no_grad():
        for source, target in segments(data, length):
            logits, state = model(source, state)
            total += F.cross_entropy(logits.reshape(-1, NOTES), target.reshape(-1), reduction="sum").item()
            count += target.numel()
    return math.exp(total / count)


def train(model, data, length, optimizer):
    model.train()
    state, total, count = None, 0.0, 0
    offset = int(torch.randint(length // 2, ()))  # other borders each epoch
    for source, target in segments(data, length, offset):
        if state is not None:
            state = tuple(part.detach() for part in state)
        logits, state = model(source, state)
        loss = F.cross_entropy(logits.reshape(-1, NOTES), target.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item() * target.numel()
        count += target.numel()
    return math.exp(total / count)


def main():
    torch.manual_seed(14)
    torch.set_num_threads(1)
    train_data, valid_data = streams(compose(48000, seed=1), 32), streams(compose(8000, seed=2), 20)
    model = Melody()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=1)
    print(f"perplexity: {NOTES} by guessing, about 2.8 at best")
    for epoch in range(18):
        seen = train(model, train_data, 40, optimizer)
        heard = evaluate(model, valid_data, 40)
        plateau.step(heard)
        print(f"epoch {epoch:2d} perplexity {seen:.3f} in training, {heard:.3f} in validation, lr {optimizer.param_groups[0]['lr']:.1e}")


if __name__ == "__main__":
    main()
