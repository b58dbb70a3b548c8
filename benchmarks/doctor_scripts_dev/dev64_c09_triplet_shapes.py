"""Metric learning in the manner of siamese-triplet: embeddings of shapes, judged by their nearest neighbours."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class TripletShapes(Dataset):
    """
    Train: for each sample (anchor) randomly chooses a positive and a negative sample
    """

    def __init__(self, shapes, seed=0):
        self.images = [(image - 0.5) / 0.2 for image in shapes.images]
        self.labels = np.array(shapes.targets)
        self.label_to_indices = {label: np.where(self.labels == label)[0] for label in set(self.labels.tolist())}
        self.rng = np.random.RandomState(seed)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        label = int(self.labels[index])
        positive = index
        while positive == index:
            positive = self.rng.choice(self.label_to_indices[label])
        negative_label = self.rng.choice(sorted(set(self.label_to_indices) - {label}))
        negative = self.rng.choice(self.label_to_indices[int(negative_label)])
        return self.images[index], self.images[positive], self.images[negative]


class EmbeddingNet(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.convnet = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1), nn.PReLU(), nn.MaxPool2d(2, stride=2),
            nn.Conv2d(24, 48, 3, padding=1), nn.PReLU(), nn.MaxPool2d(2, stride=2),
        )
        self.fc = nn.Sequential(nn.Linear(48 * 4 * 4, 64), nn.PReLU(), nn.Linear(64, dim))

    def forward(self, x):
        output = self.convnet(x)
        output = output.view(output.size(0), -1)
        return F.normalize(self.fc(output), dim=1)

    def get_embedding(self, x):
        return self.forward(x)


class TripletNet(nn.Module):
    def __init__(self, embedding_net):
        super().__init__()
        self.embedding_net = embedding_net

    def forward(self, x1, x2, x3):
        return self.embedding_net(x1), self.embedding_net(x2), self.embedding_net(x3)

    def get_embedding(self, x):
        return self.embedding_net(x)


class TripletLoss(nn.Module):
    """
    Triplet loss
    Takes (unit-length) embeddings of an anchor sample, a positive sample and a negative sample
    """

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, anchor, positive, negative):
        to_positive = (anchor - positive).pow(2).sum(1)
        to_negative = (anchor - negative).pow(2).sum(1)
        losses = F.relu(to_positive - to_negative + self.margin)
        return losses.mean()


def train_epoch(train_loader, model, loss_fn, optimizer):
    model.train()
    total, seen = 0.0, 0
    for data in train_loader:
        optimizer.zero_grad()
        loss = loss_fn(*model(*data))
        loss.backward()
        optimizer.step()
        total += loss.item() * len(data[0])
        seen += len(data[0])
    return total / seen


@torch.no_grad()
def extract_embeddings(dataset, model, batch_size=128):
    model.eval()
    images = torch.stack(dataset.images)
    return torch.cat([model.get_embedding(part) for part in images.split(batch_size)])


def neighbour_accuracy(model, reference, queries, k=5):
    """Share of query images whose k nearest training images vote for the right name."""
    distances = torch.cdist(extract_embeddings(queries, model), extract_embeddings(reference, model))
    nearest = distances.topk(k, dim=1, largest=False).indices
    votes = torch.from_numpy(reference.labels)[nearest]
    return (votes.mode(dim=1).values == torch.from_numpy(queries.labels)).float().mean().item()


def fit(train_set, val_set, train_loader, model, loss_fn, optimizer, scheduler, n_epochs):
    for epoch in range(n_epochs):
        train_loss = train_epoch(train_loader, model, loss_fn, optimizer)
        scheduler.step()
        accuracy = neighbour_accuracy(model, train_set, val_set)
        print(f"Epoch: {epoch + 1}/{n_epochs}. Train set: Average loss: {train_loss:.4f}  5-NN accuracy: {accuracy:.3f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--margin", type=float, default=0.5)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--n_epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=32)
    args = parser.parse_args()
    torch.manual_seed(0)

    train_set, val_set = TripletShapes(Shapes(train=True)), TripletShapes(Shapes(train=False))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    model = TripletNet(EmbeddingNet())
    loss_fn = TripletLoss(args.margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = lr_scheduler.StepLR(optimizer, 4, gamma=0.5)
    print(f"before training: {neighbour_accuracy(model, train_set, val_set):.3f}")
    fit(train_set, val_set, train_loader, model, loss_fn, optimizer, scheduler, args.n_epochs)


if __name__ == "__main__":
    main()
