"""MoCo: query encoder and momentum encoder of two views; then a linear probe on frozen features."""
import argparse
import copy
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Digits


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--batch-size", type=int, default=60)
    p.add_argument("--moco-m", type=float, default=0.97)
    p.add_argument("--moco-t", type=float, default=0.1)
    return p.parse_args()


class TwoViews(Dataset):
    """Two random views of a clean digit: shifted, brighter or darker, partly erased, each with its own noise."""

    def __init__(self, digits):
        # without noise of their own, by which two views of one image would be told from all others too easily
        self.images = digits.data.float() / 255

    def __len__(self):
        return len(self.images)

    def view(self, image):
        image = torch.roll(image, tuple(torch.randint(-2, 3, (2,)).tolist()), (1, 2))
        image = image * (0.7 + 0.6 * torch.rand(()))
        if torch.rand(()) < 0.5:
            y, x = torch.randint(0, 13, (2,)).tolist()
            image[:, y : y + 3, x : x + 3] = 0
        return (image + 0.1 * torch.randn(image.shape) - 0.19) / 0.33

    def __getitem__(self, index):
        return self.view(self.images[index]), self.view(self.images[index])


def plain(digits):
    noise = 0.1 * torch.randn(digits.data.shape, generator=torch.Generator().manual_seed(1))
    return (digits.data.float() / 255 + noise - 0.19) / 0.33, digits.targets


class Encoder(nn.Module):
    def __init__(self, dim):
        super().__init__()

        def block(i, o, s):
            return [nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

        layers = [*block(1, 24, 1), *block(24, 32, 2), *block(32, 48, 1), *block(48, 64, 2), *block(64, 64, 1)]
        self.features = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(2), nn.Flatten())
        self.projection = nn.Sequential(nn.Linear(256, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, dim))

    def forward(self, x):
        return self.projection(self.features(x))


class MoCo(nn.Module):
    """Version 3: a predictor over the query encoder, keys of the other view in the batch as negatives, both ways."""

    def __init__(self, dim, m, T):
        super().__init__()
        self.m, self.T, self.base_encoder = m, T, Encoder(dim)
        self.momentum_encoder = copy.deepcopy(self.base_encoder).requires_grad_(False)
        self.predictor = nn.Sequential(nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, dim))

    @torch.no_grad()
    def update_momentum_encoder(self):
        for q, k in zip(self.base_encoder.parameters(), self.momentum_encoder.parameters()):
            k.mul_(self.m).add_(q, alpha=1 - self.m)

    def contrast(self, q, k):
        logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / self.T
        labels = torch.arange(len(q))
        hits = (logits.argmax(1) == labels).float().mean().item()
        return F.cross_entropy(logits, labels) * 2 * self.T, hits

    def forward(self, x1, x2):
        q1, q2 = self.predictor(self.base_encoder(x1)), self.predictor(self.base_encoder(x2))
        with torch.no_grad():
            self.update_momentum_encoder()
            k1, k2 = self.momentum_encoder(x1), self.momentum_encoder(x2)
        (a, hits), (b, _) = self.contrast(q1, k2), self.contrast(q2, k1)
        return a + b, hits


@torch.no_grad()
def knn_accuracy(encoder, train, test, k=10):
    encoder.eval()
    a, b = (F.normalize(encoder.features(x), dim=1) for x in (train[0], test[0]))
    votes = train[1][(b @ a.T).topk(k).indices]
    return (votes.mode(1).values == test[1]).float().mean().item()


def linear_probe(encoder, train, test, epochs=25):
    encoder.eval()
    encoder.requires_grad_(False)
    with torch.no_grad():
        a, b = encoder.features(train[0]), encoder.features(test[0])
    a, b = ((z - a.mean(0)) / (a.std(0) + 1e-5) for z in (a, b))
    probe = nn.Linear(a.shape[1], 10)
    optimizer = torch.optim.Adam(probe.parameters(), lr=1e-2, weight_decay=1e-4)
    for _ in range(epochs):
        for index in torch.randperm(len(a)).split(50):
            loss = F.cross_entropy(probe(a[index]), train[1][index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return [(probe(x).argmax(1) == y).float().mean().item() for x, y in ((a, train[1]), (b, test[1]))]


def main():
    args = parse()
    torch.manual_seed(0)
    train_set, test_set = Digits(True, noise=0.0), Digits(False, noise=0.0)
    loader = DataLoader(TwoViews(train_set), args.batch_size, shuffle=True, drop_last=True)
    train, test = plain(train_set), plain(test_set)
    model = MoCo(32, args.moco_m, args.moco_t)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 4e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    for epoch in range(args.epochs):
        model.train()
        losses = hits = 0.0
        for x1, x2 in loader:
            loss, right = model(x1, x2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.item() / len(loader)
            hits += right / len(loader)
        scheduler.step()
        print(f"epoch {epoch} loss {losses:.4f} instance acc {hits:.3f} knn {knn_accuracy(model.base_encoder, train, test):.3f}")
    torch.save(model.state_dict(), tempfile.mkdtemp() + "/moco.pth")
    print("linear probe train/test", linear_probe(model.base_encoder, train, test))


if __name__ == "__main__":
    main()
