"""Metric learning on toy digits: P x K batches, batch-all triplet loss, an averaged network for retrieval."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from toydata import draw_digits


@dataclass
class Config:
    seed: int = 3
    dim: int = 32
    classes_per_batch: int = 10
    samples_per_class: int = 4
    batches_per_epoch: int = 40
    epochs: int = 6
    margin: float = 0.3
    lr: float = 2e-3
    ema_decay: float = 0.95
    ema_start: int = 20
    noise: float = 12.0  # gray levels


class DigitViews(Dataset):
    """Standardized images; those for training are moved by a pixel and get sensor noise."""

    def __init__(self, images, labels, noise=0.0, augment=False):
        self.images, self.labels = images, labels
        self.noise, self.augment = noise, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index].float()
        if self.augment:
            dy, dx = torch.randint(-1, 2, (2,)).tolist()
            image = torch.roll(image, (dy, dx), dims=(1, 2))
            image = image + self.noise * torch.randn_like(image)
        image = image / 255
        return (image - 0.17) / 0.3, int(self.labels[index])


class PKBatches(Sampler):
    """Batches of P classes with K samples each."""

    def __init__(self, labels, p, k, batches):
        self.members = [torch.nonzero(labels == c).flatten() for c in labels.unique()]
        self.p, self.k, self.batches = p, k, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for c in torch.randperm(len(self.members))[: self.p].tolist():
                rows = self.members[c]
                batch += rows[torch.randperm(len(rows))[: self.k]].tolist()
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.trunk = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(8, 32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten()),
        )
        self.head = nn.Linear(64 * 4 * 4, dim)

    def forward(self, x):
        return F.normalize(self.head(self.trunk(x)), dim=1)


def pairwise_distances(z):
    squared = 2 - 2 * z @ z.t()
    return squared.clamp(min=1e-8).sqrt()


def batch_all_triplet_loss(z, labels, margin):
    d = pairwise_distances(z)
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(z), dtype=torch.bool)
    positive, negative = same & ~itself, ~same
    # anchor, positive and negative along axes 0, 1 and 2
    gap = d[:, :, None] - d[:, None, :] + margin
    valid = positive[:, :, None] & negative[:, None, :]
    violation = F.relu(gap) * valid
    return violation.sum() / (violation > 0).sum().clamp(min=1)


@torch.no_grad()
def update_average(average, net, decay):
    for slow, fast in zip(average.parameters(), net.parameters()):
        slow.lerp_(fast, 1 - decay)


@torch.no_grad()
def embed(net, dataset):
    net.eval()
    return torch.cat([net(images) for images, _ in DataLoader(dataset, batch_size=200)])


def retrieval(net, gallery, queries):
    """Share of queries whose nearest gallery image is the same digit; area under the ROC curve of pairs."""
    g, q = embed(net, gallery), embed(net, queries)
    nearest = (q @ g.t()).argmax(dim=1)
    recall = (gallery.labels[nearest] == queries.labels).float().mean().item()
    similar = q @ q.t()
    same = queries.labels[:, None] == queries.labels[None, :]
    once = torch.ones_like(same).triu(1)
    equal, other = similar[same & once], similar[~same & once][::20]
    auc = (equal[:, None] > other[None, :]).float().mean().item()
    return recall, auc


def run(cfg):
    torch.manual_seed(cfg.seed)
    train_images, train_labels = draw_digits(1200, seed=0)
    test_images, test_labels = draw_digits(300, seed=1)
    train_set = DigitViews(train_images, train_labels, cfg.noise, augment=True)
    gallery = DigitViews(train_images, train_labels)
    queries = DigitViews(test_images, test_labels)
    batches = PKBatches(train_labels, cfg.classes_per_batch, cfg.samples_per_class, cfg.batches_per_epoch)
    loader = DataLoader(train_set, batch_sampler=batches)

    net = EmbeddingNet(cfg.dim)
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=cfg.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.epochs)

    step = 0
    for epoch in range(cfg.epochs):
        net.train()
        running = 0.0
        for images, labels in loader:
            loss = batch_all_triplet_loss(net(images), labels, cfg.margin)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step >= cfg.ema_start:
                update_average(average, net, cfg.ema_decay)
            running += loss.item()
        scheduler.step()
        recall, auc = retrieval(average, gallery, queries)
        print(f"epoch {epoch}: loss {running / len(loader):.4f}  recall@1 {recall:.3f}  pair AUC {auc:.3f}")


if __name__ == "__main__":
    run(Config())
