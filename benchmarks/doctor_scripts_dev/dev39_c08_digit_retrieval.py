"""Metric learning: find digits of the same kind by nearest neighbors of embeddings."""
import argparse
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


def get_args():
    p = argparse.ArgumentParser()
    p.add_argument("--dim", type=int, default=32)
    p.add_argument("--temperature", type=float, default=0.1)
    p.add_argument("--batch", type=int, default=60)
    p.add_argument("--epochs", type=int, default=9)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--seed", type=int, default=123)
    return p.parse_args()


class Embedder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Flatten(),
        )
        self.project = nn.Linear(48 * 5 * 5, dim)

    def forward(self, x):
        return F.normalize(self.project(self.trunk(x)), dim=1)


class SupConLoss(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, z, y):
        oneself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        logits = (z @ z.t() / self.temperature).masked_fill(oneself, -1e9)
        log_prob = F.log_softmax(logits, dim=1)
        positives = (y[:, None] == y[None, :]) & ~oneself
        number = positives.sum(dim=1)
        has_some = number > 0
        mean_log_prob = (log_prob * positives).sum(dim=1)[has_some] / number[has_some]
        return -mean_log_prob.mean()


def load(count, seed, stats=None):
    images, labels = draw_digits(count, size=20, seed=seed, noise=0.15)
    images = images.float() / 255
    stats = stats or (images.mean().item(), images.std().item())
    return (images - stats[0]) / stats[1], labels, stats


@torch.no_grad()
def embed(model, images):
    model.eval()
    return torch.cat([model(part) for part in images.split(150)])


def retrieval_scores(queries, query_labels, gallery, gallery_labels):
    ranking = (queries @ gallery.t()).argsort(dim=1, descending=True)
    relevant = (gallery_labels[ranking] == query_labels[:, None]).float()
    recall1 = relevant[:, 0].mean().item()
    recall5 = (relevant[:, :5].sum(dim=1) > 0).float().mean().item()
    positions = torch.arange(1, relevant.shape[1] + 1)
    precision = relevant.cumsum(dim=1) / positions
    average_precision = (precision * relevant).sum(dim=1) / relevant.sum(dim=1).clamp(min=1)
    return recall1, recall5, average_precision.mean().item()


def train_epoch(model, loader, criterion, optimizer):
    model.train()
    losses = []
    for x, y in loader:
        loss = criterion(model(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()


def main():
    args = get_args()
    torch.manual_seed(args.seed)

    images, labels, stats = load(1200, seed=0)
    gallery_images, gallery_labels, _ = load(200, seed=1, stats=stats)
    query_images, query_labels, _ = load(150, seed=2, stats=stats)
    loader = DataLoader(TensorDataset(images, labels), batch_size=args.batch, shuffle=True)

    model = Embedder(args.dim)
    criterion = SupConLoss(args.temperature)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs, eta_min=args.lr / 20)

    for epoch in range(1, args.epochs + 1):
        start = time.perf_counter()
        loss = train_epoch(model, loader, criterion, optimizer)
        scheduler.step()
        r1, r5, mean_ap = retrieval_scores(
            embed(model, query_images), query_labels, embed(model, gallery_images), gallery_labels
        )
        print(f"[{epoch:02d}] loss={loss:.4f} R@1={r1:.3f} R@5={r5:.3f} mAP={mean_ap:.3f} "
              f"({time.perf_counter() - start:.1f}s)")


if __name__ == "__main__":
    main()
