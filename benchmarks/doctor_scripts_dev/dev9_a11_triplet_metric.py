import collections
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Digits


class MPerClassSampler(Sampler):
    """P classes of K samples each, as person re-identification does."""

    def __init__(self, labels, p, k, length):
        self.p, self.k, self.length = p, k, length
        self.by_label = collections.defaultdict(list)
        for i, label in enumerate(labels):
            self.by_label[int(label)].append(i)

    def __len__(self):
        return self.length

    def __iter__(self):
        for _ in range(self.length):
            batch = []
            for label in random.sample(sorted(self.by_label), self.p):
                batch.extend(random.sample(self.by_label[label], self.k))
            yield batch


class Embedder(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.PReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.PReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 16, 64), nn.PReLU(), nn.Linear(64, dim))

    def forward(self, x):
        return F.normalize(self.net(x), dim=1)


def pairwise(a, b):
    return (a.pow(2).sum(1)[:, None] + b.pow(2).sum(1)[None] - 2 * a @ b.t()).clamp(min=1e-12).sqrt()


def batch_all(embeddings, labels, margin):
    dist = pairwise(embeddings, embeddings)
    same = labels[:, None] == labels[None]
    eye = torch.eye(len(labels), dtype=torch.bool)
    valid = (same & ~eye)[:, :, None] & ~same[:, None, :]  # anchor, positive, negative
    losses = F.relu(dist[:, :, None] - dist[:, None, :] + margin)[valid]
    active = losses > 0
    return losses.sum() / active.sum().clamp(min=1), active.float().mean()


@torch.no_grad()
def embed(model, loader):
    model.eval()
    pairs = [(model(x), y) for x, y in loader]
    return torch.cat([e for e, _ in pairs]), torch.cat([y for _, y in pairs])


def retrieval(model, loader):
    """Recall@1 and mean average precision with every image as query against all the others."""
    e, y = embed(model, loader)
    dist = pairwise(e, e)
    dist.fill_diagonal_(float("inf"))
    order = dist.argsort(1)[:, :-1]
    match = (y[order] == y[:, None]).float()
    precision = match.cumsum(1) / torch.arange(1, match.shape[1] + 1)
    ap = (precision * match).sum(1) / match.sum(1).clamp(min=1)
    return match[:, 0].mean().item(), ap.mean().item()


def main(seed=5, epochs=10, margin=0.3, lr=1e-3):
    random.seed(seed)
    torch.manual_seed(seed)
    to_tensor = lambda im: im.float().div(255).sub(0.2).div(0.35)  # noqa: E731
    train = Digits(True, transform=to_tensor, noise=0.25)
    test = Digits(False, transform=to_tensor, noise=0.25)
    train_loader = DataLoader(train, batch_sampler=MPerClassSampler(train.targets, p=8, k=5, length=25))
    test_loader = DataLoader(test, batch_size=100)
    model = Embedder()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, amsgrad=True)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    print("before: recall@1 %.3f mAP %.3f" % retrieval(model, test_loader))
    for epoch in range(epochs):
        model.train()
        stats = []
        for images, labels in train_loader:
            loss, active = batch_all(model(images), labels, margin)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            stats.append((loss.item(), active.item()))
        scheduler.step()
        loss, active = (sum(s) / len(s) for s in zip(*stats))
        r1, mean_ap = retrieval(model, test_loader)
        print(f"{epoch:2d} loss {loss:.4f} active {active:.2f} recall@1 {r1:.3f} mAP {mean_ap:.3f}")


if __name__ == "__main__":
    main()
