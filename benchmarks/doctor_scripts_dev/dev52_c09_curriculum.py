"""Signals of different lengths, long (easy) ones first. Padding is masked wherever it could be seen."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

import toydata

N_CLASSES = 4


class CutWaves(Dataset):
    """Each signal keeps a piece of 36 to 64 values; the cuts are drawn once."""

    def __init__(self, count, seed):
        signals, self.labels = toydata.waves(count=count, seed=seed)
        generator = torch.Generator().manual_seed(seed + 100)
        self.pieces = []
        for signal in signals[:, 0]:
            length = int(torch.randint(36, 65, (1,), generator=generator))
            start = int(torch.randint(0, 64 - length + 1, (1,), generator=generator))
            self.pieces.append(signal[start : start + length])
        self.lengths = torch.tensor([len(piece) for piece in self.pieces])

    def __len__(self):
        return len(self.pieces)

    def __getitem__(self, i):
        return self.pieces[i], self.labels[i]


class CurriculumSampler(Sampler):
    """The longest half of the signals at first; every epoch some shorter ones more, until all take part."""

    def __init__(self, lengths, full_after, seed=0):
        self.ranking = torch.argsort(lengths, descending=True)
        self.full_after = full_after
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        share = min(1.0, 0.5 + 0.5 * self.epoch / self.full_after)
        return int(share * len(self.ranking))

    def __iter__(self):
        allowed = self.ranking[: len(self)]
        yield from allowed[torch.randperm(len(allowed), generator=self.generator)].tolist()


def collate(samples):
    pieces, labels = zip(*samples)
    lengths = torch.tensor([len(piece) for piece in pieces])
    return pad_sequence(pieces, batch_first=True), lengths, torch.stack(labels)


class MaskedConvNet(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv1d(1, width, 7, padding=3),
                nn.Conv1d(width, width, 5, padding=2),
                nn.Conv1d(width, width, 5, padding=2),
            ]
        )
        self.head = nn.Linear(2 * width, N_CLASSES)

    def forward(self, signals, lengths):
        mask = (torch.arange(signals.shape[1]) < lengths[:, None]).unsqueeze(1)
        h = signals.unsqueeze(1)
        for conv in self.convs:
            h = F.relu(conv(h)) * mask
        mean = (h * mask).sum(dim=2) / mask.sum(dim=2)
        peak = h.masked_fill(~mask, -1e4).amax(dim=2)
        return self.head(torch.cat([mean, peak], dim=1))


def accuracy(model, loader):
    model.eval()
    right = 0
    with torch.no_grad():
        for signals, lengths, labels in loader:
            right += (model(signals, lengths).argmax(dim=1) == labels).sum().item()
    return right / len(loader.dataset)


def main():
    torch.manual_seed(3)
    train_data, dev_data = CutWaves(1000, seed=1), CutWaves(300, seed=2)
    sampler = CurriculumSampler(train_data.lengths, full_after=5)
    train_loader = DataLoader(train_data, batch_size=32, sampler=sampler, collate_fn=collate)
    dev_loader = DataLoader(dev_data, batch_size=100, collate_fn=collate)

    model = MaskedConvNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[11, 14], gamma=0.3)
    for epoch in range(16):
        sampler.set_epoch(epoch)
        model.train()
        total, seen = torch.zeros(()), 0
        for signals, lengths, labels in train_loader:
            loss = F.cross_entropy(model(signals, lengths), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(labels)
            seen += len(labels)
        scheduler.step()
        print(f"epoch {epoch:2d}: {seen:4d} signals, loss {float(total) / seen:.4f}, dev {accuracy(model, dev_loader):.4f}")


if __name__ == "__main__":
    main()
