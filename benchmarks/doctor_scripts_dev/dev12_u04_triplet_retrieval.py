"""Metric learning: embeddings of digits by the batch-hard triplet loss, judged by recall@k."""
import argparse
import os
import random
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from toydata import draw_digits


class DigitFolder(Dataset):
    """Files in the order of a folder per class: all of class 0, then all of class 1, ..."""

    def __init__(self, count, seed, transform):
        images, labels = draw_digits(count, seed=seed, noise=0.2, shift=3)
        order = labels.argsort(stable=True)
        self.images, self.labels = images[order], labels[order]
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.images[index]), int(self.labels[index])


class Compose:
    def __init__(self, *steps):
        self.steps = steps

    def __call__(self, x):
        for step in self.steps:
            x = step(x)
        return x


def to_tensor(image):
    return image.float() / 255


def normalize(x):
    return (x - 0.25) / 0.3


def random_shift(x, pixels=1):
    dy, dx = random.randint(-pixels, pixels), random.randint(-pixels, pixels)
    return torch.roll(x, (dy, dx), dims=(-2, -1))


def random_brightness(x, amount=0.2):
    return x * (1 + random.uniform(-amount, amount))


def random_flip(x):
    return x.flip(-1) if random.random() < 0.5 else x


class PKSampler(Sampler):
    """Batches of P classes with K images each."""

    def __init__(self, labels, p, k, batches):
        self.by_class = {c: (labels == c).nonzero().flatten().tolist() for c in labels.unique().tolist()}
        self.p, self.k, self.batches = p, k, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for c in random.sample(sorted(self.by_class), self.p):
                batch += random.sample(self.by_class[c], self.k)
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.fc = nn.Sequential(nn.Linear(32 * 4 * 4, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, dim))

    def forward(self, x):
        return F.normalize(self.fc(self.convs(x)), dim=1)


def pairwise_distances(embeddings):
    dot = embeddings @ embeddings.t()
    squared = 2 - 2 * dot
    return squared.clamp(min=1e-8).sqrt()


class BatchHardTripletLoss(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        distances = pairwise_distances(embeddings)
        same = labels[:, None] == labels[None, :]
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        hardest_positive = (distances * (same & ~itself)).amax(dim=1)
        # entries that are no negatives get the largest distance of their row on top
        hardest_negative = (distances + distances.amax(dim=1, keepdim=True) * same).amin(dim=1)
        loss = F.relu(hardest_positive - hardest_negative + self.margin)
        return loss.mean(), (loss > 0).float().mean()


@torch.no_grad()
def embed(model, loader, device):
    model.eval()
    vectors, labels = [], []
    for images, targets in loader:
        vectors.append(model(images.to(device)).cpu())
        labels.append(targets)
    return torch.cat(vectors), torch.cat(labels)


def recall_at_k(queries, query_labels, gallery, gallery_labels, ks, same_set):
    similarity = queries @ gallery.t()
    if same_set:
        similarity.fill_diagonal_(-float("inf"))
    nearest = similarity.topk(max(ks), dim=1).indices
    hits = gallery_labels[nearest] == query_labels[:, None]
    return [hits[:, :k].any(dim=1).float().mean().item() for k in ks]


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--classes-per-batch", type=int, default=8)
    parser.add_argument("--images-per-class", type=int, default=6)
    parser.add_argument("--margin", type=float, default=0.3)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main():
    args = parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    augment = Compose(to_tensor, random_shift, random_brightness, normalize)
    plain = Compose(to_tensor, normalize)
    train_set = DigitFolder(1600, seed=0, transform=augment)
    val_set = DigitFolder(300, seed=1, transform=plain)
    sampler = PKSampler(train_set.labels, args.classes_per_batch, args.images_per_class, batches=35)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=100)

    model = EmbeddingNet(args.dim).to(device)
    criterion = BatchHardTripletLoss(args.margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)

    queries, query_labels = embed(model, val_loader, device)
    start = recall_at_k(queries, query_labels, queries, query_labels, (1, 5), same_set=True)
    print(f"before training: recall@1 {start[0]:.3f} recall@5 {start[1]:.3f}")
    path = os.path.join(tempfile.mkdtemp(prefix="triplet_"), "model.pt")
    best = 0.0
    for epoch in range(args.epochs):
        model.train()
        total = active = 0.0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            loss, share = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            active += share.item()
        queries, query_labels = embed(model, val_loader, device)
        r1, r5 = recall_at_k(queries, query_labels, queries, query_labels, (1, 5), same_set=True)
        n = len(train_loader)
        print(f"epoch {epoch}: loss {total / n:.4f} active {active / n:.2f} recall@1 {r1:.3f} recall@5 {r5:.3f}")
        if r1 > best:
            best = r1
            torch.save(model.state_dict(), path)
    print(f"final recall@1 {r1:.3f} (best {best:.3f})")


if __name__ == "__main__":
    main()
