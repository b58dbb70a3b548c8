"""Embeddings of shapes with proxies, in the idiom of Proxy-Anchor's train.py; recall at 1 on validation images."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Shapes


class BalancedBatches(Sampler):
    """Batches of `per_class` images of every class, drawn anew in each epoch."""

    def __init__(self, targets, per_class):
        self.targets = torch.tensor(targets)
        self.per_class = per_class
        self.classes = self.targets.unique().tolist()

    def __len__(self):
        return min(int((self.targets == c).sum()) for c in self.classes) // self.per_class

    def __iter__(self):
        rows = []
        for c in self.classes:
            members = (self.targets == c).nonzero().flatten()
            rows.append(members[torch.randperm(len(members))])
        for b in range(len(self)):
            part = slice(b * self.per_class, (b + 1) * self.per_class)
            batch = torch.cat([members[part] for members in rows])
            yield batch[torch.randperm(len(batch))].tolist()


class Embedder(nn.Module):
    def __init__(self, size=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
        )
        self.embedding = nn.Linear(48, size)

    def forward(self, x):
        x = self.features(x).amax(dim=(2, 3))
        return F.normalize(self.embedding(x), dim=1)


class ProxyLoss(nn.Module):
    """Normalized softmax: cosine similarity to one proxy a class, over a temperature."""

    def __init__(self, classes, size, temperature=0.1):
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(classes, size))
        self.temperature = temperature

    def forward(self, embeddings, labels):
        similarity = embeddings @ F.normalize(self.proxies, dim=1).t()
        return F.cross_entropy(similarity / self.temperature, labels)


def center(image):
    return (image - 0.5) / 0.25


@torch.no_grad()
def recall_at_1(model, loader):
    model.eval()
    embeddings, labels = [], []
    for images, targets in loader:
        embeddings.append(model(images))
        labels.append(targets)
    embeddings, labels = torch.cat(embeddings), torch.cat(labels)
    similarity = embeddings @ embeddings.t()
    similarity.fill_diagonal_(-2)
    nearest = similarity.argmax(1)
    return (labels[nearest] == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nb-epochs", type=int, default=10)
    parser.add_argument("--sz-embedding", type=int, default=32)
    parser.add_argument("--images-per-class", type=int, default=6)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    args = parser.parse_args()
    torch.manual_seed(1)

    train_set = Shapes(train=True, transform=center)
    val_set = Shapes(train=False, transform=center)
    dl_tr = DataLoader(train_set, batch_sampler=BalancedBatches(train_set.targets, args.images_per_class))
    dl_ev = DataLoader(val_set, batch_size=80, shuffle=False)

    model = Embedder(args.sz_embedding)
    criterion = ProxyLoss(6, args.sz_embedding)
    param_groups = [
        {"params": list(model.parameters())},
        {"params": list(criterion.parameters()), "weight_decay": 0.0},
    ]
    opt = torch.optim.AdamW(param_groups, lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, step_size=4, gamma=0.5)

    best_recall, best_epoch = 0.0, -1
    for epoch in range(args.nb_epochs):
        model.train()
        losses = []
        for x, y in dl_tr:
            loss = criterion(model(x), y)
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(model.parameters(), 10)
            opt.step()
            losses.append(loss.item())
        scheduler.step()
        recall = recall_at_1(model, dl_ev)
        print(f"epoch {epoch} loss {sum(losses) / len(losses):.4f} R@1 {100 * recall:.2f}")
        if recall > best_recall:
            best_recall, best_epoch = recall, epoch
    print(f"best R@1 {100 * best_recall:.2f} in epoch {best_epoch}")


if __name__ == "__main__":
    main()
