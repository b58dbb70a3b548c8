"""Metric learning: embeddings of digits from triplets within batches of P classes with K images each."""

import argparse
import random
from collections import defaultdict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Digits


def to_tensor(image):
    return (image.float() / 255 - 0.17) / 0.30


class PKSampler(Sampler):
    """Batches of `p` classes with `k` images each, drawn anew in every epoch."""

    def __init__(self, targets, p, k, batches):
        self.groups = defaultdict(list)
        for index, target in enumerate(targets):
            self.groups[int(target)].append(index)
        self.p, self.k, self.batches = p, k, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for label in random.sample(sorted(self.groups), self.p):
                batch.extend(random.sample(self.groups[label], self.k))
            random.shuffle(batch)
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.embed = nn.Linear(32 * 4 * 4, dim)

    def forward(self, x):
        return F.normalize(self.embed(self.features(x).flatten(1)), dim=1)


class TripletLoss(nn.Module):
    """Every positive pair of the batch against some negatives of its anchor, with a soft margin."""

    def __init__(self, negatives=8, temperature=0.3):
        super().__init__()
        self.negatives, self.temperature = negatives, temperature

    def choose_negatives(self, distance, different):
        return torch.multinomial(different.float(), self.negatives)

    def forward(self, embeddings, labels):
        distance = 2 - 2 * embeddings @ embeddings.t()
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        chosen = self.choose_negatives(distance, ~same)
        to_negative = distance.gather(1, chosen)
        difference = distance[:, :, None] - to_negative[:, None, :]
        return F.softplus(difference / self.temperature)[positive].mean()


@torch.no_grad()
def embed_all(model, loader):
    model.eval()
    outputs = [(model(images), labels) for images, labels in loader]
    return torch.cat([o for o, _ in outputs]), torch.cat([t for _, t in outputs])


def recall_at_1(embeddings, labels):
    similarity = embeddings @ embeddings.t()
    similarity.fill_diagonal_(-2)
    nearest = similarity.argmax(dim=1)
    return (labels[nearest] == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("-P", type=int, default=8)
    parser.add_argument("-K", type=int, default=4)
    parser.add_argument("--batches", type=int, default=36, help="batches of an epoch")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    train_set = Digits(train=True, transform=to_tensor)
    val_set = Digits(train=False, transform=to_tensor)
    sampler = PKSampler(train_set.targets, args.P, args.K, args.batches)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=150)

    model, criterion = EmbeddingNet(), TripletLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    print(f"untrained recall@1 {recall_at_1(*embed_all(model, val_loader)):.3f}")

    for epoch in range(args.epochs):
        model.train()
        losses = []
        for images, labels in train_loader:
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        recall = recall_at_1(*embed_all(model, val_loader))
        print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.4f}  val recall@1 {recall:.3f}")


if __name__ == "__main__":
    main()
