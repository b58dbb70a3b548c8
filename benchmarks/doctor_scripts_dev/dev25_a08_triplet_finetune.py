"""Embeddings of digits by triplets, then a linear classifier for another scanner's digits on the frozen encoder.

Both phases run in one small learner with callbacks.
"""
import os
import tempfile

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from toydata import draw_digits


def prepare(images):
    return (images.float() / 255 - 0.2) / 0.3


class Encoder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        layers = []
        for inputs, outputs in [(1, 16), (16, 32)]:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten()]
        self.body = nn.Sequential(*layers)
        self.project = nn.Linear(64 * 4 * 4, dim)

    def forward(self, x):
        return F.normalize(self.project(self.body(x)), dim=1)


class EmbeddingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()

    def forward(self, triplet):
        batch, three = triplet.shape[:2]
        return self.encoder(triplet.flatten(0, 1)).view(batch, three, -1)


class Classifier(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        return self.head(4 * self.encoder(x))


class Triplets(Dataset):
    """An image, another of its digit, and one of another digit."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        self.same = [torch.nonzero(labels == k).flatten() for k in range(10)]
        self.other = [torch.nonzero(labels != k).flatten() for k in range(10)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        k = int(self.labels[index])
        positive = self.same[k][torch.randint(len(self.same[k]), ())]
        negative = self.other[k][torch.randint(len(self.other[k]), ())]
        return torch.stack([self.images[index], self.images[positive], self.images[negative]]), k


class Callback:
    def begin_epoch(self, learner): ...
    def after_epoch(self, learner): ...


class Learner:
    def __init__(self, model, loader, loss_func, lr, cbs=()):
        self.model, self.loader, self.loss_func, self.cbs = model, loader, loss_func, cbs
        self.opt = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)

    def all(self, name):
        for cb in self.cbs:
            getattr(cb, name)(self)

    def one_batch(self, xb, yb):
        loss = self.loss_func(self.model(xb), yb)
        loss.backward()
        self.opt.step()
        self.opt.zero_grad()
        return loss.item()

    def fit(self, epochs):
        for self.epoch in range(epochs):
            self.model.train()
            self.all("begin_epoch")
            losses = [self.one_batch(xb, yb) for xb, yb in self.loader]
            self.loss = sum(losses) / len(losses)
            self.model.eval()
            with torch.no_grad():
                self.all("after_epoch")


class Recall(Callback):
    """Share of validation images whose nearest neighbor among the gallery shows the same digit."""

    def __init__(self, gallery, queries):
        self.gallery, self.queries = gallery, queries

    def after_epoch(self, learner):
        known, wanted = (learner.model.encoder(images) for images in (self.gallery[0], self.queries[0]))
        nearest = torch.cdist(wanted, known).argmin(dim=1)
        recall = (self.gallery[1][nearest] == self.queries[1]).float().mean()
        print(f"embedding {learner.epoch}: loss {learner.loss:.4f}, recall@1 {recall:.3f}")


class KeepFrozen(Callback):
    def begin_epoch(self, learner):
        learner.model.encoder.eval()


class Accuracy(Callback):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def after_epoch(self, learner):
        accuracy = (learner.model(self.images).argmax(dim=1) == self.labels).float().mean()
        print(f"classifier {learner.epoch}: loss {learner.loss:.4f}, valid accuracy {accuracy:.3f}")


def triplet_loss(embedded, _):
    anchor, positive, negative = embedded.unbind(dim=1)
    return F.triplet_margin_loss(anchor, positive, negative, margin=0.5)


def pretrain(path, epochs=9):
    images, labels = draw_digits(2000, seed=0)
    valid_images, valid_labels = draw_digits(300, seed=1)
    images, valid_images = prepare(images), prepare(valid_images)
    loader = DataLoader(Triplets(images, labels), batch_size=32, shuffle=True)
    recall = Recall((images[:500], labels[:500]), (valid_images, valid_labels))
    learner = Learner(EmbeddingNet(), loader, triplet_loss, lr=1e-3, cbs=[recall])
    learner.fit(epochs)
    torch.save(learner.model.state_dict(), path)


def finetune(path, epochs=15):
    images, labels = draw_digits(500, seed=2, noise=0.15)
    valid_images, valid_labels = draw_digits(400, seed=3, noise=0.15)
    model = Classifier()
    weights = torch.load(path)
    weights = {name.removeprefix("encoder."): value for name, value in weights.items()}
    model.encoder.load_state_dict(weights)
    model.encoder.requires_grad_(False)
    loader = DataLoader(TensorDataset(prepare(images), labels), batch_size=25, shuffle=True)
    cbs = [KeepFrozen(), Accuracy(prepare(valid_images), valid_labels)]
    Learner(model, loader, nn.CrossEntropyLoss(), lr=1e-2, cbs=cbs).fit(epochs)


if __name__ == "__main__":
    torch.manual_seed(21)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "encoder.pt")
        pretrain(path)
        finetune(path)
