"""SimCLR on colored shapes: two views of every image, NT-Xent, then a linear probe on frozen features."""
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes

BATCH, EPOCHS, WARMUP_STEPS, LR, TAU = 100, 22, 20, 3e-3, 0.2


def load(train):
    shapes = Shapes(train=train)
    images = torch.stack(shapes.images)
    return (images - 0.5) / 0.2, torch.tensor(shapes.targets)


def random_view(x):
    n = x.size(0)
    scale = torch.empty(n).uniform_(0.75, 1.0)
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = scale * mirror
    theta[:, 1, 1] = scale
    theta[:, :, 2] = (2 * torch.rand(n, 2) - 1) * (1 - scale)[:, None]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    contrast = torch.empty(n, 1, 1, 1).uniform_(0.8, 1.2)
    return x * contrast + 0.1 * torch.randn_like(x)


class Encoder(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        )

    def forward(self, x):
        return self.body(x).mean(dim=(2, 3))


class SimCLR(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.projector = nn.Sequential(nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, x):
        return self.projector(self.encoder(x))


def contrastive_loss(za, zb, temperature):
    n = za.size(0)
    z = F.normalize(torch.cat([za, zb]), dim=1)
    similarity = z @ z.t() / temperature
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool), -1e9)
    partner = torch.arange(2 * n).roll(n)
    return F.cross_entropy(similarity, partner)


@torch.no_grad()
def extract(encoder, images):
    was_training = encoder.training
    encoder.eval()
    features = torch.cat([encoder(chunk) for chunk in images.split(300)]).numpy()
    encoder.train(was_training)
    return features


def probe(encoder, train_images, train_labels, images, labels):
    train_features, features = extract(encoder, train_images), extract(encoder, images)
    mean, std = train_features.mean(0), train_features.std(0) + 1e-6
    classifier = LogisticRegression(max_iter=2000)
    classifier.fit((train_features - mean) / std, train_labels)
    return classifier.score((features - mean) / std, labels)


def main():
    torch.manual_seed(3)
    np.random.seed(3)
    images, labels = load(train=True)
    test_images, test_labels = load(train=False)
    loader = DataLoader(TensorDataset(images), batch_size=BATCH, shuffle=True, drop_last=True)

    model = SimCLR()
    baseline = probe(model.encoder, images, labels.numpy(), test_images, test_labels.numpy())
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-4)
    total_steps = EPOCHS * len(loader)
    scheduler = SequentialLR(
        optimizer,
        [LinearLR(optimizer, 0.1, total_iters=WARMUP_STEPS), CosineAnnealingLR(optimizer, total_steps - WARMUP_STEPS)],
        milestones=[WARMUP_STEPS],
    )

    for epoch in range(1, EPOCHS + 1):
        model.train()
        losses = []
        for (batch,) in loader:
            loss = contrastive_loss(model(random_view(batch)), model(random_view(batch)), TAU)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        if epoch % 4 == 0 or epoch == EPOCHS:
            features = extract(model.encoder, images)
            knn = KNeighborsClassifier(15).fit(features[:700], labels[:700].numpy())
            monitor = knn.score(features[700:], labels[700:].numpy())
            print(f"epoch {epoch:3d}  loss {np.mean(losses):.3f}  kNN {monitor:.3f}")

    accuracy = probe(model.encoder, images, labels.numpy(), test_images, test_labels.numpy())
    print(f"linear probe, test accuracy: {accuracy:.3f} (untrained encoder: {baseline:.3f})")


if __name__ == "__main__":
    main()
