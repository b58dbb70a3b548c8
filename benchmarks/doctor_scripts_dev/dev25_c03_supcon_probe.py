"""Supervised contrastive learning (Khosla et al.) in two stages: contrastive training, then a linear probe on the frozen encoder."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


class TwoCropDigits(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def view(self, image):
        top, left = torch.randint(0, 3, (2,)).tolist()
        image = F.pad(image, [1, 1, 1, 1])[:, top : top + 16, left : left + 16]
        return image * (0.8 + 0.4 * torch.rand(())) + 0.1 * torch.randn_like(image)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.view(self.images[index]), self.view(self.images[index]), self.labels[index]


class Encoder(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 4 * 4, dim), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x):
        return self.body(x)


class SupConModel(nn.Module):
    def __init__(self, dim=64, projection=32):
        super().__init__()
        self.encoder = Encoder(dim)
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, projection))

    def forward(self, x):
        return F.normalize(self.head(self.encoder(x)), dim=1)


def supcon_loss(features, labels, temperature=0.1):
    """features: (2N, d) of unit length; labels: (2N,)."""
    logits = features @ features.T / temperature
    logits = logits - logits.max(dim=1, keepdim=True).values.detach()
    itself = torch.eye(len(labels), dtype=torch.bool)
    positives = (labels[:, None] == labels[None, :]) & ~itself
    log_prob = logits - torch.logsumexp(logits.masked_fill(itself, float("-inf")), dim=1, keepdim=True)
    mean_log_prob = (log_prob * positives).sum(1) / positives.sum(1)
    return -mean_log_prob.mean()


@torch.no_grad()
def knn_accuracy(encoder, train_x, train_y, val_x, val_y, k=5):
    encoder.eval()
    bank = F.normalize(encoder(train_x), dim=1)
    queries = F.normalize(encoder(val_x), dim=1)
    neighbours = train_y[(queries @ bank.T).topk(k, dim=1).indices]
    votes = F.one_hot(neighbours, 10).sum(1).argmax(1)
    return (votes == val_y).float().mean().item()


def main():
    torch.manual_seed(0)
    train_x, train_y = draw_digits(1920, seed=0, noise=0.15)
    val_x, val_y = draw_digits(400, seed=1, noise=0.15)
    train_x, val_x = train_x.float() / 255, val_x.float() / 255
    mean, std = train_x.mean(), train_x.std()
    train_x, val_x = (train_x - mean) / std, (val_x - mean) / std

    # stage 1: contrastive
    model = SupConModel()
    loader = DataLoader(TwoCropDigits(train_x, train_y), batch_size=64, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(18):
        model.train()
        losses = []
        for first, second, labels in loader:
            features = model(torch.cat([first, second]))
            loss = supcon_loss(features, torch.cat([labels, labels]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        accuracy = knn_accuracy(model.encoder, train_x, train_y, val_x, val_y)
        print(f"[contrastive] epoch {epoch + 1} loss {sum(losses) / len(losses):.4f} val 5-NN accuracy {accuracy:.4f}")

    # stage 2: the encoder stays as it is, only a linear classifier is trained
    encoder = model.encoder.eval()
    for parameter in encoder.parameters():
        parameter.requires_grad = False
    classifier = nn.Linear(64, 10)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1, momentum=0.9)
    probe_loader = DataLoader(list(zip(train_x, train_y)), batch_size=64, shuffle=True)
    for epoch in range(8):
        classifier.train()
        for images, labels in probe_loader:
            with torch.no_grad():
                features = encoder(images)
            loss = F.cross_entropy(classifier(features), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        classifier.eval()
        with torch.no_grad():
            accuracy = (classifier(encoder(val_x)).argmax(1) == val_y).float().mean().item()
        print(f"[probe] epoch {epoch + 1} val accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
