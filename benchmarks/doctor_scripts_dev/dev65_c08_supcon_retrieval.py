"""Embeddings of digits for retrieval: supervised contrastive loss, P x K batches, recall at 1."""

import argparse
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler, TensorDataset

from toydata import draw_digits


class MPerClassSampler(Sampler):
    """Batches of `classes` labels with `m` samples of each."""

    def __init__(self, labels, classes, m, batches, seed=0):
        self.by_label = {}
        for index, label in enumerate(labels.tolist()):
            self.by_label.setdefault(label, []).append(index)
        self.classes, self.m, self.batches = classes, m, batches
        self.rng = random.Random(seed)

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for label in self.rng.sample(sorted(self.by_label), self.classes):
                batch.extend(self.rng.sample(self.by_label[label], self.m))
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.embed = nn.Sequential(nn.Linear(32 * 4 * 4, 64), nn.ReLU(inplace=True), nn.Linear(64, dim))

    def forward(self, x):
        return F.normalize(self.embed(self.features(x)), dim=1)


class SupConLoss(nn.Module):
    def __init__(self, temperature=0.15):
        super().__init__()
        self.temperature = temperature

    def forward(self, embeddings, labels):
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        similarity = embeddings @ embeddings.t() / self.temperature
        similarity = similarity.masked_fill(itself, -1e9)
        log_prob = similarity - torch.logsumexp(similarity, dim=1, keepdim=True)
        positive = (labels[:, None] == labels[None, :]) & ~itself
        per_anchor = (log_prob * positive).sum(1) / positive.sum(1).clamp(min=1)
        return -per_anchor.mean()


def get_splits(args):
    def prepare(images):
        return (images.float() / 255 - 0.2) / 0.33

    train_images, train_labels = draw_digits(args.train_samples, seed=0)
    val_images, val_labels = draw_digits(args.val_samples, seed=1)
    return (prepare(train_images), train_labels), (prepare(val_images), val_labels)


@torch.no_grad()
def embed_all(model, loader):
    model.eval()
    embeddings, labels = [], []
    for images, targets in loader:
        embeddings.append(model(images))
        labels.append(targets)
    return torch.cat(embeddings), torch.cat(labels)


def recall_at_1(embeddings, labels):
    similarity = embeddings @ embeddings.t()
    similarity.fill_diagonal_(-2.0)
    nearest = similarity.argmax(dim=1)
    return (labels[nearest] == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train-samples", type=int, default=1200)
    parser.add_argument("--val-samples", type=int, default=400)
    parser.add_argument("--classes-per-batch", type=int, default=6)
    parser.add_argument("--samples-per-class", type=int, default=8)
    parser.add_argument("--batches", type=int, default=25)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(0)

    (train_images, train_labels), (val_images, val_labels) = get_splits(args)
    sampler = MPerClassSampler(train_labels, args.classes_per_batch, args.samples_per_class, args.batches)
    train_loader = DataLoader(TensorDataset(train_images, train_labels), batch_sampler=sampler)
    val_loader = DataLoader(TensorDataset(val_images, val_labels), batch_size=128)

    model = EmbeddingNet()
    criterion = SupConLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    print(f"epoch 0: recall@1 {recall_at_1(*embed_all(model, val_loader)):.3f}")
    for epoch in range(1, args.epochs + 1):
        model.train()
        losses = []
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        recall = recall_at_1(*embed_all(model, val_loader))
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}, recall@1 {recall:.3f}")


if __name__ == "__main__":
    main()
