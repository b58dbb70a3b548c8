"""Metric learning: P x K batches, batch-hard triplets with a soft margin, recall@1 on digits classes never seen in training."""
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from toydata import draw_digits


@dataclass
class Options:
    p: int = 7
    k: int = 6
    iters_per_epoch: int = 30
    epochs: int = 8
    lr: float = 2e-3
    seen: tuple = field(default=(0, 1, 2, 4, 5, 7, 9))
    unseen: tuple = field(default=(3, 6, 8))


class PKSampler:
    """Yields lists of P classes with K samples each."""

    def __init__(self, labels, p, k, batches, seed=0):
        self.by_class = {c: np.flatnonzero(labels == c) for c in np.unique(labels)}
        self.p, self.k, self.batches = p, k, batches
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            classes = self.rng.choice(list(self.by_class), self.p, replace=False)
            yield [int(i) for c in classes for i in self.rng.choice(self.by_class[c], self.k, replace=False)]


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        layers, cin = [], 1
        for cout in (24, 48):
            layers += [nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2)]
            cin = cout
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(48 * 16, dim))

    def forward(self, x):
        return nn.functional.normalize(self.body(x), dim=1)


def batch_hard_triplet(emb, labels, scale=8.0):
    dist = (2 - 2 * emb @ emb.T).clamp(min=1e-6).sqrt()
    same = labels[:, None] == labels[None]
    hardest_pos = dist.masked_fill(~same, -1).amax(1)
    hardest_neg = dist.masked_fill(same, 10).amin(1)
    return nn.functional.softplus(scale * (hardest_pos - hardest_neg)).mean() / scale


@torch.no_grad()
def recall_at_1(model, loader):
    model.eval()
    emb, labels = zip(*[(model(x), y) for x, y in loader])
    emb, labels = torch.cat(emb), torch.cat(labels)
    sim = (emb @ emb.T).fill_diagonal_(-2)
    return (labels[sim.argmax(1)] == labels).float().mean().item()


def main(opt=Options()):
    torch.manual_seed(1)
    images, labels = draw_digits(1300, seed=30)
    test_images, test_labels = draw_digits(900, seed=31)
    full = TensorDataset(images.float() / 127.5 - 1, labels)
    test = TensorDataset(test_images.float() / 127.5 - 1, test_labels)
    pick = lambda y, classes: torch.isin(y, torch.tensor(classes)).nonzero().flatten().tolist()
    train_rows = pick(labels, opt.seen)
    train_set = Subset(full, train_rows)
    sampler = PKSampler(labels[train_rows].numpy(), opt.p, opt.k, opt.iters_per_epoch)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    seen_loader = DataLoader(Subset(test, pick(test_labels, opt.seen)), 256)
    unseen_loader = DataLoader(Subset(test, pick(test_labels, opt.unseen)), 256)

    model = EmbeddingNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=opt.lr)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 7], gamma=0.3)
    print(f"untrained: R@1 seen {recall_at_1(model, seen_loader):.3f} unseen {recall_at_1(model, unseen_loader):.3f}")
    for epoch in range(opt.epochs):
        model.train()
        losses = []
        for x, y in train_loader:
            loss = batch_hard_triplet(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, R@1 seen {recall_at_1(model, seen_loader):.3f}, "
              f"unseen classes {recall_at_1(model, unseen_loader):.3f}")


if __name__ == "__main__":
    main()
