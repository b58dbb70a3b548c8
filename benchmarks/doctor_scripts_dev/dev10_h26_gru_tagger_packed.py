"""Sequence tagging by a two-way GRU over packed sequences: letters tagged by their neighbors; padding is left out of the loss."""
import argparse
import random

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

TOKENS = {"<pad>": 0, "a": 1, "b": 2, "c": 3, "x": 4, "y": 5}
TAGS = ["other", "before-x", "after-x", "doubled"]
IGNORE = -100


def make_sequence(rng):
    """A letter is tagged by its neighbors: next to the right an x, to the left an x, or equal to the one before."""
    length = rng.randint(5, 24)
    tokens = [rng.choice("aabbccxy") for _ in range(length)]
    tags = []
    for i, token in enumerate(tokens):
        if i and tokens[i - 1] == token:
            tags.append(3)
        elif i + 1 < length and tokens[i + 1] == "x":
            tags.append(1)
        elif i and tokens[i - 1] == "x":
            tags.append(2)
        else:
            tags.append(0)
    return torch.tensor([TOKENS[t] for t in tokens]), torch.tensor(tags)


class Sequences(Dataset):
    def __init__(self, count, seed):
        rng = random.Random(seed)
        self.items = [make_sequence(rng) for _ in range(count)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def pad_collate(batch):
    tokens, tags = zip(*batch)
    lengths = torch.tensor([len(t) for t in tokens])
    return pad_sequence(tokens, batch_first=True), pad_sequence(tags, batch_first=True, padding_value=IGNORE), lengths


class BucketSampler:
    """Batches of similar length: shuffled, cut into pools, sorted within each, batches shuffled again."""

    def __init__(self, lengths, batch_size, pool=10):
        self.lengths, self.batch_size, self.pool = lengths, batch_size, pool

    def __len__(self):
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self):
        order = torch.randperm(len(self.lengths)).tolist()
        batches = []
        for start in range(0, len(order), self.pool * self.batch_size):
            chunk = sorted(order[start:start + self.pool * self.batch_size], key=lambda i: self.lengths[i])
            batches += [chunk[i:i + self.batch_size] for i in range(0, len(chunk), self.batch_size)]
        random.shuffle(batches)
        yield from batches


class Tagger(nn.Module):
    def __init__(self, embed=24, hidden=48, dropout=0.1):
        super().__init__()
        self.embedding = nn.Embedding(len(TOKENS), embed, padding_idx=0)
        self.gru = nn.GRU(embed, hidden, batch_first=True, bidirectional=True)
        self.dropout, self.out = nn.Dropout(dropout), nn.Linear(2 * hidden, len(TAGS))

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=tokens.shape[1])
        return self.out(self.dropout(states))


def train_epoch(model, loader, criterion, optimizer, clip):
    model.train()
    total, count = 0.0, 0
    for tokens, tags, lengths in loader:
        logits = model(tokens, lengths)
        loss = criterion(logits.transpose(1, 2), tags)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        total, count = total + loss.detach() * lengths.sum(), count + int(lengths.sum())
    return float(total) / count


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right = torch.zeros(len(TAGS))
    seen = torch.zeros(len(TAGS))
    for tokens, tags, lengths in loader:
        predicted = model(tokens, lengths).argmax(-1)
        real = tags != IGNORE
        seen += torch.bincount(tags[real], minlength=len(TAGS))
        right += torch.bincount(tags[real & (predicted == tags)], minlength=len(TAGS))
    return float(right.sum() / seen.sum()), (right / seen).tolist()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=6e-3)
    args = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    train_set, valid_set = Sequences(1600, 0), Sequences(300, 1)
    lengths = [len(t) for t, _ in train_set.items]
    train_loader = DataLoader(train_set, batch_sampler=BucketSampler(lengths, args.batch_size), collate_fn=pad_collate)
    valid_loader = DataLoader(valid_set, batch_size=100, collate_fn=pad_collate)
    model = Tagger()
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
    for epoch in range(args.epochs):
        loss = train_epoch(model, train_loader, criterion, optimizer, clip=1.0)
        scheduler.step()
        accuracy, per_tag = evaluate(model, valid_loader)
        print(f"epoch {epoch} loss {loss:.4f} accuracy {accuracy:.4f} " + " ".join(f"{n} {a:.3f}" for n, a in zip(TAGS, per_tag)))


if __name__ == "__main__":
    main()
