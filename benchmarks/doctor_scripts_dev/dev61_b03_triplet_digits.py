"""Metric learning on digits with the batch-hard triplet loss (Hermans et al.) and P x K batches."""

import argparse
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.data.sampler import BatchSampler

from toydata import Digits


class BalancedBatchSampler(BatchSampler):
    """Each batch holds n_classes classes with n_samples images each."""

    def __init__(self, labels, n_classes, n_samples, seed=0):
        self.labels = np.asarray(labels)
        self.classes = np.unique(self.labels)
        self.by_class = {c: np.where(self.labels == c)[0] for c in self.classes}
        self.n_classes, self.n_samples = n_classes, n_samples
        self.seed = seed
        self.rng = np.random.RandomState(seed)

    def __len__(self):
        return len(self.labels) // (self.n_classes * self.n_samples)

    def __iter__(self):
        rng = self.rng
        for _ in range(len(self)):
            batch = []
            for c in rng.choice(self.classes, self.n_classes, replace=False):
                batch.extend(rng.choice(self.by_class[c], self.n_samples, replace=False).tolist())
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32, p_drop=0.2):
        super().__init__()
        self.convnet = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.PReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.PReLU(),
            nn.MaxPool2d(2),
        )
        self.fc = nn.Sequential(
            nn.Dropout(p_drop),
            nn.Linear(32 * 4 * 4, 96),
            nn.PReLU(),
            nn.Linear(96, dim),
        )

    def forward(self, x):
        out = self.convnet(x)
        return F.normalize(self.fc(out.flatten(1)), dim=1)


def pairwise_distances(emb):
    diff = emb.unsqueeze(1) - emb.unsqueeze(0)
    return diff.pow(2).sum(-1).clamp(min=1e-12).sqrt()


def batch_hard_triplet_loss(emb, labels, margin):
    dist = pairwise_distances(emb)
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    eye = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    hardest_positive = dist.masked_fill(~(same & ~eye), float("-inf")).max(dim=1)[0]
    hardest_negative = dist.masked_fill(same, float("inf")).min(dim=1)[0]
    loss = F.relu(hardest_positive - hardest_negative + margin)
    return loss.mean(), (hardest_positive < hardest_negative).float().mean()


@torch.no_grad()
def extract_embeddings(loader, model):
    model.eval()
    embeddings, labels = [], []
    for images, target in loader:
        embeddings.append(model(images))
        labels.append(target)
    return torch.cat(embeddings), torch.cat(labels)


def recall_at_k(embeddings, labels, ks=(1, 5)):
    """Each image queries all the others."""
    sim = embeddings @ embeddings.t()
    sim.fill_diagonal_(float("-inf"))
    nearest = sim.topk(max(ks), dim=1)[1]
    hit = labels[nearest] == labels.unsqueeze(1)
    return [hit[:, :k].any(dim=1).float().mean().item() for k in ks]


def to_input(image):
    return (image.float() / 255 - 0.25) / 0.33


def fit(train_loader, val_loader, model, optimizer, scheduler, args):
    for epoch in range(args.epochs):
        start = time.time()
        model.train()
        losses, active = [], []
        for images, target in train_loader:
            optimizer.zero_grad()
            embeddings = model(images)
            loss, ordered = batch_hard_triplet_loss(embeddings, target, args.margin)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            active.append(ordered.item())
        scheduler.step()
        r1, r5 = recall_at_k(*extract_embeddings(val_loader, model))
        print(
            f"Epoch {epoch + 1}/{args.epochs}  loss {np.mean(losses):.4f}  ordered {np.mean(active):.3f}  "
            f"R@1 {r1:.3f}  R@5 {r5:.3f}  ({time.time() - start:.1f}s)"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--margin", type=float, default=0.4)
    parser.add_argument("--classes-per-batch", type=int, default=8)
    parser.add_argument("--samples-per-class", type=int, default=6)
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    train_set = Digits(train=True, count=1200, transform=to_input)
    val_set = Digits(train=False, count=300, transform=to_input)
    sampler = BalancedBatchSampler(train_set.targets, args.classes_per_batch, args.samples_per_class, args.seed)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=100, shuffle=False)

    model = EmbeddingNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs, eta_min=1e-5)
    fit(train_loader, val_loader, model, optimizer, scheduler, args)


if __name__ == "__main__":
    main()
