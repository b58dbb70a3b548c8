"""Supervised contrastive learning, then a linear probe on the frozen encoder."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


class TwoViews(Dataset):
    """Two random views of each image, or the image as it is."""

    def __init__(self, images, labels, views):
        self.images, self.labels, self.views = images, labels, views

    @staticmethod
    def augment(image):
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        image = torch.roll(image, (dy, dx), dims=(-2, -1))
        image = image * (0.8 + 0.4 * torch.rand(()))
        return image + 0.2 * torch.randn_like(image)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        if self.views:
            return self.augment(image), self.augment(image), self.labels[index]
        return image, self.labels[index]


class Encoder(nn.Module):
    def __init__(self, width=20, out_dim=128):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 3 * width, 3, padding=1),
            nn.BatchNorm2d(3 * width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3 * width * 16, out_dim),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.body(x)


class ProjectionHead(nn.Sequential):
    def __init__(self, dim=128, out_dim=64):
        super().__init__(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, out_dim))

    def forward(self, x):
        return F.normalize(super().forward(x), dim=1)


def supcon_loss(z, labels, temperature):
    """Khosla et al. 2020, L_out: z holds unit vectors, both views one after the other."""
    similarity = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool)
    similarity = similarity - similarity.max(dim=1, keepdim=True).values.detach()
    others = similarity.exp().masked_fill(itself, 0.0).sum(dim=1, keepdim=True)
    log_prob = similarity - others.log()
    positives = (labels[:, None] == labels[None, :]) & ~itself
    return -((log_prob * positives).sum(dim=1) / positives.sum(dim=1)).mean()


@torch.no_grad()
def embed(encoder, loader):
    encoder.eval()
    features, labels = zip(*[(encoder(x), y) for x, y in loader])
    return torch.cat(features), torch.cat(labels)


def nearest_neighbor_accuracy(encoder, bank_loader, val_loader):
    bank, bank_labels = embed(encoder, bank_loader)
    features, labels = embed(encoder, val_loader)
    nearest = (F.normalize(features, dim=1) @ F.normalize(bank, dim=1).T).argmax(dim=1)
    return (bank_labels[nearest] == labels).float().mean().item()


def pretrain(encoder, head, train_loader, bank_loader, val_loader, args):
    parameters = list(encoder.parameters()) + list(head.parameters())
    optimizer = torch.optim.Adam(parameters, lr=args.lr)
    for epoch in range(args.epochs):
        encoder.train()
        head.train()
        losses = []
        for first, second, labels in train_loader:
            z = head(encoder(torch.cat([first, second])))
            loss = supcon_loss(z, torch.cat([labels, labels]), args.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        accuracy = nearest_neighbor_accuracy(encoder, bank_loader, val_loader)
        print(f"contrastive epoch {epoch}: loss {sum(losses) / len(losses):.4f}, 1-nn accuracy {accuracy:.4f}")


def probe(encoder, train_loader, val_loader, args):
    """Only the classifier learns; the encoder stays in evaluation mode."""
    encoder.eval()
    for p in encoder.parameters():
        p.requires_grad = False
    classifier = nn.Linear(128, 10)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=args.probe_lr)
    for epoch in range(args.probe_epochs):
        classifier.train()
        for images, labels in train_loader:
            with torch.no_grad():
                features = encoder(images)
            loss = F.cross_entropy(classifier(features), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        classifier.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in val_loader:
                correct += (classifier(encoder(images)).argmax(dim=1) == labels).sum().item()
        print(f"probe epoch {epoch}: loss {loss.item():.4f}, accuracy {correct / len(val_loader.dataset):.4f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--probe-epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--probe-lr", type=float, default=3e-3)
    parser.add_argument("--temperature", type=float, default=0.1)
    args = parser.parse_args()

    torch.manual_seed(17)
    images, labels = draw_digits(2400, seed=40)
    val_images, val_labels = draw_digits(500, seed=41)
    images, val_images = images.float() / 255, val_images.float() / 255
    mean, std = images.mean(), images.std()
    images, val_images = (images - mean) / std, (val_images - mean) / std

    pair_loader = DataLoader(TwoViews(images, labels, True), args.batch_size, shuffle=True, drop_last=True)
    plain_loader = DataLoader(TwoViews(images, labels, False), args.batch_size, shuffle=True)
    val_loader = DataLoader(TwoViews(val_images, val_labels, False), 250)
    encoder, head = Encoder(), ProjectionHead()
    pretrain(encoder, head, pair_loader, plain_loader, val_loader, args)
    probe(encoder, plain_loader, val_loader, args)


if __name__ == "__main__":
    main()
