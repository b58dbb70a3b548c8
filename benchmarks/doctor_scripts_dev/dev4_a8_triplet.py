"""Signs with a digit on a striped ground: embedding of the digit by triplets, stripes named by a head."""

import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from toydata import draw_digits
from torch.utils.data import DataLoader, Dataset, Sampler

P, K = 5, 9
MARGIN = 0.3
EPOCHS = 10


class Signs(Dataset):
    def __init__(self, count, seed):
        images, self.digits = draw_digits(count, seed=seed, shift=3, noise=0.1)
        generator = torch.Generator().manual_seed(seed + 1000)
        self.grounds = torch.randint(0, 4, (count,), generator=generator)
        y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        angles = torch.arange(4) * math.pi / 4
        waves = angles.cos().view(4, 1, 1) * x + angles.sin().view(4, 1, 1) * y
        phases = 6.28 * torch.rand(count, 1, 1, generator=generator)
        stripes = 0.25 * torch.sin(1.6 * waves[self.grounds] + phases)
        self.images = images.float() / 255 - 0.3 + stripes.unsqueeze(1)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.digits[i], self.grounds[i]


class PKSampler(Sampler):
    """Batches of P identities with K samples each."""

    def __init__(self, labels, p, k, batches):
        self.p, self.k, self.batches = p, k, batches
        self.by_label = {}
        for i, label in enumerate(labels.tolist()):
            self.by_label.setdefault(label, []).append(i)

    def __len__(self):
        return self.batches

    def __iter__(self):
        identities = sorted(self.by_label)
        for _ in range(self.batches):
            chosen = random.sample(identities, self.p)
            yield [i for label in chosen for i in random.sample(self.by_label[label], self.k)]


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32, grounds=4):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, stride=1, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(16), nn.BatchNorm2d(32), nn.BatchNorm2d(64)
        self.fc = nn.Linear(64 * 16, 64)
        self.embed = nn.Linear(64, dim)
        self.ground = nn.Linear(64, grounds)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.relu(self.fc(x.flatten(1)))
        return F.normalize(self.embed(x), dim=1), self.ground(x)


def batch_all_triplet(embeddings, labels, margin=MARGIN):
    distances = torch.cdist(embeddings, embeddings)
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    valid = positive.unsqueeze(2) & ~same.unsqueeze(1)
    losses = F.relu(distances.unsqueeze(2) - distances.unsqueeze(1) + margin)[valid]
    return losses.sum() / (losses > 1e-6).sum().clamp(min=1)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    embeddings, digits, right = [], [], 0
    for images, digit, ground in loader:
        embedding, logits = model(images)
        embeddings.append(embedding)
        digits.append(digit)
        right += (logits.argmax(dim=1) == ground).sum().item()
    embeddings, digits = torch.cat(embeddings), torch.cat(digits)
    similarity = embeddings @ embeddings.T
    similarity.fill_diagonal_(-2.0)
    nearest = similarity.argmax(dim=1)
    return (digits[nearest] == digits).float().mean().item(), right / len(digits)


def main():
    torch.manual_seed(0)
    random.seed(0)
    train_set, test_set = Signs(1500, seed=30), Signs(400, seed=31)
    train_loader = DataLoader(train_set, batch_sampler=PKSampler(train_set.digits, P, K, batches=40))
    test_loader = DataLoader(test_set, batch_size=100)

    model = EmbeddingNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(EPOCHS):
        model.train()
        triplet_sum = ground_sum = 0.0
        for images, digits, grounds in train_loader:
            embeddings, logits = model(images)
            triplet = batch_all_triplet(embeddings, digits)
            ground = F.cross_entropy(logits, grounds)
            loss = triplet + 0.5 * ground
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            triplet_sum += triplet.item()
            ground_sum += ground.item()
        recall, accuracy = evaluate(model, test_loader)
        print(
            f"epoch {epoch:2d} triplet {triplet_sum / len(train_loader):.3f} ground {ground_sum / len(train_loader):.3f} "
            f"recall@1 {recall:.3f} ground acc {accuracy:.3f}"
        )


if __name__ == "__main__":
    main()
