"""Supervised contrastive embeddings of digits, batches of P classes with K samples each."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Digits


class PKSampler(Sampler):
    """Yields the indices of P classes, K different samples of each, one class after the other."""

    def __init__(self, targets, p, k, batches, generator=None):
        self.by_class = [torch.nonzero(targets == c).flatten() for c in targets.unique().tolist()]
        self.p, self.k, self.batches, self.generator = p, k, batches, generator

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for c in torch.randperm(len(self.by_class), generator=self.generator)[: self.p].tolist():
                members = self.by_class[c]
                chosen = torch.randperm(len(members), generator=self.generator)[: self.k]
                batch.extend(members[chosen].tolist())
            yield batch


class Encoder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        layers, channels = [], 1
        for width in (16, 32):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(channels * 4 * 4, dim)

    def forward(self, x):
        return F.normalize(self.head(self.trunk(x)), dim=1)


class SupConLoss(nn.Module):
    def __init__(self, temperature=0.2):
        super().__init__()
        self.temperature = temperature

    def forward(self, features, labels):
        n = len(features)
        logits = features @ features.T / self.temperature
        itself = torch.eye(n, dtype=torch.bool, device=features.device)
        log_prob = F.log_softmax(logits.masked_fill(itself, -1e9), dim=1)
        positives = (labels[:, None] == labels[None, :]) & ~itself
        per_anchor = -(log_prob * positives).sum(1) / positives.sum(1).clamp(min=1)
        return per_anchor.mean()


def preprocess(image):
    return (image.float() / 255 - 0.17) / 0.3


@torch.no_grad()
def embed(model, loader):
    model.eval()
    features, labels = zip(*[(model(x), y) for x, y in loader])
    return torch.cat(features), torch.cat(labels)


def recall_at_1(queries, query_labels, gallery, gallery_labels):
    nearest = (queries @ gallery.T).argmax(dim=1)
    return (gallery_labels[nearest] == query_labels).float().mean().item()


def parse_option():
    parser = argparse.ArgumentParser("supervised contrastive training")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batches", type=int, default=25, help="batches of an epoch")
    parser.add_argument("--p", type=int, default=10, help="classes of a batch")
    parser.add_argument("--k", type=int, default=6, help="samples of each class")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight_decay", type=float, default=1e-4)
    parser.add_argument("--temp", type=float, default=0.2)
    return parser.parse_args()


def train(loader, model, criterion, optimizer, scheduler):
    model.train()
    total = torch.zeros(())
    for images, labels in loader:
        features = model(images)
        loss = criterion(features, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.detach()
    return (total / len(loader)).item()


def main():
    opt = parse_option()
    torch.manual_seed(0)
    train_set, val_set = Digits(True, transform=preprocess), Digits(False, transform=preprocess)
    sampler = PKSampler(train_set.targets, opt.p, opt.k, opt.batches, torch.Generator().manual_seed(0))
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    gallery_loader = DataLoader(train_set, batch_size=200)
    val_loader = DataLoader(val_set, batch_size=150)

    model = Encoder()
    criterion = SupConLoss(temperature=opt.temp)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=opt.lr, momentum=opt.momentum, weight_decay=opt.weight_decay, nesterov=True
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=opt.epochs * opt.batches)

    for epoch in range(1, opt.epochs + 1):
        loss = train(train_loader, model, criterion, optimizer, scheduler)
        gallery, gallery_labels = embed(model, gallery_loader)
        queries, query_labels = embed(model, val_loader)
        recall = recall_at_1(queries, query_labels, gallery, gallery_labels)
        print(f"epoch {epoch}, loss {loss:.3f}, recall@1 {recall:.3f}")


if __name__ == "__main__":
    main()
