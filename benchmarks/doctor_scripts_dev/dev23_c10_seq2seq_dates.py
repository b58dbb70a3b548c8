"""Dates as people write them into ISO dates: GRU with attention, scheduled sampling, a curriculum by length."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Subset

MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
          "november", "december"]
PAD, SOS = 0, 11
IN_CHARS = "abcdefghijklmnopqrstuvwxyz0123456789 ,./"
IN_INDEX = {c: i + 1 for i, c in enumerate(IN_CHARS)}
OUT_CHARS = "0123456789-"  # 0..10; the start sign is 11


def make_pairs(count, seed):
    """All dates differ, so a part of the list has none in common with the rest."""
    rng = random.Random(seed)
    days = [(y, m, d) for y in range(1950, 2050) for m in range(1, 13) for d in range(1, 29)]
    pairs = []
    for y, m, d in rng.sample(days, count):
        name = MONTHS[m - 1]
        written = rng.choice([f"{d}.{m}.{y}", f"{name[:3]} {d} {y}", f"{d} {name[:3]} {y}", f"{name} {d}, {y}"])
        pairs.append((written, f"{y}-{m:02d}-{d:02d}"))
    return pairs


class Dates(torch.utils.data.Dataset):
    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        written, iso = self.pairs[i]
        return (torch.tensor([IN_INDEX[c] for c in written]), torch.tensor([OUT_CHARS.index(c) for c in iso]))


def collate(samples):
    sources, targets = zip(*samples)
    lengths = torch.tensor([len(s) for s in sources])
    return pad_sequence(sources, batch_first=True, padding_value=PAD), lengths, torch.stack(targets)


class Encoder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embed = nn.Embedding(len(IN_CHARS) + 1, 32, padding_idx=PAD)
        self.gru = nn.GRU(32, hidden // 2, batch_first=True, bidirectional=True)

    def forward(self, source, lengths):
        packed = pack_padded_sequence(self.embed(source), lengths, batch_first=True, enforce_sorted=False)
        states, last = self.gru(packed)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=source.shape[1])
        return states, torch.cat([last[0], last[1]], dim=1)


class Decoder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embed = nn.Embedding(12, 16)
        self.cell = nn.GRUCell(16 + hidden, hidden)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.out = nn.Linear(2 * hidden, 11)

    def forward(self, token, state, memory, blank):
        scores = torch.einsum("bh,bth->bt", self.query(state), memory) / memory.shape[2] ** 0.5
        weights = scores.masked_fill(blank, float("-inf")).softmax(1)
        context = torch.einsum("bt,bth->bh", weights, memory)
        state = self.cell(torch.cat([self.embed(token), context], dim=1), state)
        return self.out(torch.cat([state, context], dim=1)), state


class Seq2Seq(nn.Module):
    def __init__(self, hidden=96):
        super().__init__()
        self.encoder, self.decoder = Encoder(hidden), Decoder(hidden)

    def forward(self, source, lengths, steps, targets=None, own_share=1.0):
        """With targets, each next input is the true sign, or with probability `own_share` the predicted one."""
        memory, state = self.encoder(source, lengths)
        blank = source == PAD
        token = torch.full((len(source),), SOS)
        logits = []
        for t in range(steps):
            step_logits, state = self.decoder(token, state, memory, blank)
            logits.append(step_logits)
            token = step_logits.detach().argmax(1)
            if targets is not None:
                own = torch.rand(len(source)) < own_share
                token = torch.where(own, token, targets[:, t])
        return torch.stack(logits, dim=1)


def train_epoch(model, loader, optimizer, own_share):
    model.train()
    total = 0.0
    for source, lengths, targets in loader:
        logits = model(source, lengths, targets.shape[1], targets, own_share)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
    return total / len(loader)


def evaluate(model, loader):
    """Greedy decoding: the model sees nothing but its own output."""
    model.eval()
    signs = exact = count = 0
    with torch.no_grad():
        for source, lengths, targets in loader:
            right = model(source, lengths, targets.shape[1]).argmax(2) == targets
            signs += right.float().mean(1).sum().item()
            exact += right.all(1).sum().item()
            count += len(source)
    return signs / count, exact / count


def main(epochs=14, batch_size=64):
    torch.manual_seed(2)
    pairs = make_pairs(5000, seed=2)
    train_set, valid_set = Dates(pairs[400:]), Dates(pairs[:400])
    short = [i for i, (written, _) in enumerate(train_set.pairs) if len(written) <= 11]
    valid_loader = DataLoader(valid_set, batch_size=200, collate_fn=collate)
    model = Seq2Seq()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.4, patience=2,
                                                           min_lr=4e-4)
    for epoch in range(epochs):
        part = Subset(train_set, short) if epoch < 2 else train_set
        loader = DataLoader(part, batch_size=batch_size, shuffle=True, collate_fn=collate)
        own_share = min(0.3, 0.04 * epoch)
        loss = train_epoch(model, loader, optimizer, own_share)
        signs, exact = evaluate(model, valid_loader)
        if epoch >= 4:
            scheduler.step(signs)
        print(f"epoch {epoch:2d} ({len(part)} pairs, own share {own_share:.2f}): loss {loss:.4f} "
              f"signs {signs:.4f} exact {exact:.4f} lr {optimizer.param_groups[0]['lr']:.4f}")


if __name__ == "__main__":
    main()
