"""Few-shot classification of signals with prototypes, after oscarknagg/few-shot and orobix/Prototypical-Networks."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler, TensorDataset


def make_classes(count, per_class, length=48, seed=0):
    """Each class is a pattern of three bumps; a sample is that pattern, a little moved, scaled and noisy."""
    g = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 1, length)
    center = 0.1 + 0.8 * torch.rand(count, 1, 3, 1, generator=g)
    height = torch.randn(count, 1, 3, 1, generator=g)
    moved = center + 0.015 * torch.randn(count, per_class, 1, 1, generator=g)
    signal = (height * torch.exp(-(((time - moved) / 0.06) ** 2))).sum(2)
    signal = signal * (0.8 + 0.4 * torch.rand(count, per_class, 1, generator=g))
    signal = signal + 0.15 * torch.randn(signal.shape, generator=g)
    labels = torch.arange(count).repeat_interleave(per_class)
    return signal.reshape(count * per_class, 1, length), labels


class EpisodeSampler(Sampler):
    """Batches of `way` classes with `samples` each, sorted by class: the first of each support, the others queries."""

    def __init__(self, labels, way, samples, episodes, seed=None):
        self.members = [(labels == c).nonzero().flatten() for c in labels.unique()]
        self.way, self.samples, self.episodes, self.seed = way, samples, episodes, seed

    def __len__(self):
        return self.episodes

    def __iter__(self):
        g = torch.Generator()
        g.manual_seed(self.seed if self.seed is not None else int(torch.randint(2**31, (1,))))
        for _ in range(self.episodes):
            rows = []
            for c in torch.randperm(len(self.members), generator=g)[: self.way].tolist():
                pick = torch.randperm(len(self.members[c]), generator=g)[: self.samples]
                rows.append(self.members[c][pick])
            yield torch.cat(rows).tolist()


class Encoder(nn.Module):
    def __init__(self, width=32, size=48):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, width, 5, padding=2),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(width, width, 5, padding=2),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Flatten(),
            nn.Linear(12 * width, size),
        )

    def forward(self, x):
        return self.net(x)


def classify(queries, prototypes):
    """Logits of queries: the negative squared distance to each prototype."""
    distance = ((queries[:, None, :] - prototypes[None, :, :]) ** 2).sum(2)
    return -distance


def episode_loss(model, x, way, shot):
    z = model(x)
    z = z.view(way, -1, z.size(-1))
    prototypes = z[:, :shot].mean(1)
    queries = z[:, shot:].reshape(-1, z.size(-1))
    target = torch.arange(way).repeat_interleave(z.size(1) - shot)
    logits = classify(queries, prototypes) / z.size(-1) ** 0.5
    return F.cross_entropy(logits, target), (logits.argmax(1) == target).float().mean().item()


@torch.no_grad()
def evaluate(model, loader, way, shot):
    model.eval()
    results = [episode_loss(model, x, way, shot) for x, _ in loader]
    loss = sum(r[0].item() for r in results) / len(results)
    return loss, sum(r[1] for r in results) / len(results)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shot", type=int, default=3)
    parser.add_argument("--query", type=int, default=6)
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(7)

    signals, labels = make_classes(60, 30, seed=0)
    background, novel = labels < 45, labels >= 45
    each = args.shot + args.query
    train_loader = DataLoader(
        TensorDataset(signals[background], labels[background]),
        batch_sampler=EpisodeSampler(labels[background], args.way, each, args.episodes),
    )
    val_loader = DataLoader(
        TensorDataset(signals[novel], labels[novel]),
        batch_sampler=EpisodeSampler(labels[novel], args.way, each, 40, seed=99),
    )
    model = Encoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.5)
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for x, _ in train_loader:
            loss, _ = episode_loss(model, x, args.way, args.shot)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        val_loss, val_accuracy = evaluate(model, val_loader, args.way, args.shot)
        print(f"{epoch} train {total / len(train_loader):.4f} val {val_loss:.4f} accuracy {val_accuracy:.3f}")


if __name__ == "__main__":
    main()
