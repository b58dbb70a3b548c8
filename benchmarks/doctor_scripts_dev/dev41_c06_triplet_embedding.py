"""Homework 4: embeddings of digits with online triplets. Every batch holds some images of every class."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from toydata import Digits

MEAN, STD = 0.18, 0.33


def to_input(image):
    return (image.float() / 255 - MEAN) / STD


class BalancedBatchSampler:
    """Draws `per_class` samples of each class for each batch."""

    def __init__(self, labels, per_class, n_batches):
        self.groups = [torch.nonzero(labels == c).flatten() for c in labels.unique()]
        self.per_class, self.n_batches = per_class, n_batches

    def __iter__(self):
        for _ in range(self.n_batches):
            drawn = [group[torch.randperm(len(group))[: self.per_class]] for group in self.groups]
            yield torch.cat(drawn).tolist()

    def __len__(self):
        return self.n_batches


class EmbeddingNet(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.convnet = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.PReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.PReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.PReLU(),
        )
        self.fc = nn.Sequential(nn.Linear(32 * 4 * 4, 128), nn.PReLU(), nn.Linear(128, dim))

    def forward(self, x):
        return F.normalize(self.fc(self.convnet(x).flatten(1)), dim=1)


class OnlineTripletLoss(nn.Module):
    """Mean hinge over all triplets of a batch, on the squared distances of unit vectors."""

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        same = labels[:, None] == labels[None, :]
        itself = torch.eye(len(labels), dtype=torch.bool)
        positive, negative = same & ~itself, ~same
        pairwise = 2 - 2 * embeddings @ embeddings.t()
        to_positive, to_negative = pairwise[:, :, None], pairwise[:, None, :]
        hinge = F.relu(to_positive - to_negative + self.margin)
        triplets = positive[:, :, None] & negative[:, None, :]
        return hinge[triplets].mean()


def train_epoch(loader, model, loss_fn, optimizer):
    model.train()
    losses = []
    for data, target in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(data), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()


@torch.no_grad()
def extract_embeddings(loader, model):
    model.eval()
    embeddings, labels = [], []
    for data, target in loader:
        embeddings.append(model(data))
        labels.append(target)
    return torch.cat(embeddings), torch.cat(labels)


def pair_auc(embeddings, labels):
    first, second = torch.triu_indices(len(labels), len(labels), offset=1)
    similarity = (embeddings[first] * embeddings[second]).sum(1)
    return roc_auc_score((labels[first] == labels[second]).numpy(), similarity.numpy())


def neighbor_accuracy(gallery, gallery_labels, queries, query_labels, k=5):
    knn = KNeighborsClassifier(n_neighbors=k).fit(gallery.numpy(), gallery_labels.numpy())
    return float(np.mean(knn.predict(queries.numpy()) == query_labels.numpy()))


def fit(train_loader, model, loss_fn, optimizer, scheduler, n_epochs, test_loader):
    for epoch in range(n_epochs):
        train_loss = train_epoch(train_loader, model, loss_fn, optimizer)
        scheduler.step()
        embeddings, labels = extract_embeddings(test_loader, model)
        print(
            f"Epoch: {epoch + 1}/{n_epochs}. Train set: Average loss: {train_loss:.4f} "
            f"Test set: AUC of pairs: {pair_auc(embeddings, labels):.4f}"
        )


def main():
    torch.manual_seed(42)
    np.random.seed(42)
    train_dataset = Digits(train=True, transform=to_input)
    test_dataset = Digits(train=False, transform=to_input)
    sampler = BalancedBatchSampler(train_dataset.targets, per_class=6, n_batches=20)
    train_loader = DataLoader(train_dataset, batch_sampler=sampler)
    gallery_loader = DataLoader(train_dataset, batch_size=100)
    test_loader = DataLoader(test_dataset, batch_size=100)

    model = EmbeddingNet()
    loss_fn = OnlineTripletLoss(margin=0.4)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    fit(train_loader, model, loss_fn, optimizer, scheduler, 10, test_loader)

    gallery, gallery_labels = extract_embeddings(gallery_loader, model)
    queries, query_labels = extract_embeddings(test_loader, model)
    accuracy = neighbor_accuracy(gallery, gallery_labels, queries, query_labels)
    print(f"5 nearest neighbors of the training set: {100 * accuracy:.1f}% of the test set")


if __name__ == "__main__":
    main()
