"""Tutorial: embeddings of digits with the triplet loss, scored by the nearest neighbor."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Digits

random.seed(3)
torch.manual_seed(3)

# Hyperparameters
batch_size = 32
num_epochs = 14
learning_rate = 0.03
margin = 0.5
embedding_dim = 16

# Data: uint8 images of 1 x 16 x 16
train_digits = Digits(train=True, count=3000, noise=0.15)
test_digits = Digits(train=False, count=400, noise=0.15)
train_images = train_digits.data.float() / 255
test_images = test_digits.data.float() / 255
mean, std = train_images.mean(), train_images.std()
train_images = (train_images - mean) / std
test_images = (test_images - mean) / std
train_labels, test_labels = train_digits.targets, test_digits.targets


class Triplets(Dataset):
    """For each image: the image, another one of the same digit, and one of another digit."""

    def __init__(self, images, labels):
        self.images = images
        self.labels = labels.tolist()
        self.by_label = {c: [i for i, label in enumerate(self.labels) if label == c] for c in range(10)}

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        label = self.labels[i]
        j = i
        while j == i:
            j = random.choice(self.by_label[label])
        other = random.choice([c for c in range(10) if c != label])
        k = random.choice(self.by_label[other])
        return self.images[i], self.images[j], self.images[k]


train_loader = DataLoader(Triplets(train_images, train_labels), batch_size=batch_size, shuffle=True, drop_last=True)


class EmbeddingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                nn.Sequential(nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                nn.Sequential(nn.Flatten(), nn.Linear(48 * 4 * 4, 64), nn.ReLU()),
            ]
        )
        self.out = nn.Linear(64, embedding_dim)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.out(x), dim=1)


net = EmbeddingNet()
criterion = nn.TripletMarginLoss(margin=margin)
optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.3)


def embed(images):
    return torch.cat([net(part) for part in images.split(200)])


def nearest_neighbor_accuracy():
    """Each test image gets the digit of the training image whose embedding is nearest."""
    net.eval()
    with torch.no_grad():
        gallery = embed(train_images)
        queries = embed(test_images)
        nearest = torch.cdist(queries, gallery).argmin(dim=1)
    return (train_labels[nearest] == test_labels).float().mean().item()


for epoch in range(num_epochs):
    net.train()
    running_loss = 0.0
    for anchor, positive, negative in train_loader:
        optimizer.zero_grad()
        a, p, n = net(torch.cat([anchor, positive, negative])).chunk(3)
        loss = criterion(a, p, n)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    scheduler.step()
    accuracy = nearest_neighbor_accuracy()
    print(f"Epoch {epoch + 1}: loss {running_loss / len(train_loader):.4f}, 1-NN accuracy {accuracy:.4f}", flush=True)

print("Finished training")
