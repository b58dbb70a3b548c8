"""SimCLR on shapes without labels, then a linear probe by scikit-learn on frozen features."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class TwoViews(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    @staticmethod
    def view(image):
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
        shift = torch.randint(-3, 4, (2,)).tolist()
        image = torch.roll(F.pad(image[None], (3, 3, 3, 3), mode="replicate")[0], shift, (1, 2))[:, 3:-3, 3:-3]
        contrast, bright = 0.8 + 0.4 * torch.rand(()), 0.2 * (torch.rand(()) - 0.5)
        image = (image - 0.5) * contrast + 0.5 + bright
        return (image + 0.04 * torch.randn_like(image) - 0.5) / 0.25

    def __getitem__(self, index):
        return self.view(self.images[index]), self.view(self.images[index])


class Encoder(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )

    def forward(self, x):
        return self.net(x)


class SimCLR(nn.Module):
    def __init__(self, dim=64, projection=32):
        super().__init__()
        self.encoder = Encoder(dim)
        self.projector = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, projection))

    def forward(self, x):
        return F.normalize(self.projector(self.encoder(x)), dim=1)


def info_nce(z1, z2, temperature=0.2):
    n = len(z1)
    z = torch.cat([z1, z2])
    similarity = z @ z.t() / temperature
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))
    target = torch.cat([torch.arange(n, 2 * n), torch.arange(0, n)])
    return F.cross_entropy(similarity, target)


@torch.no_grad()
def features(encoder, dataset):
    encoder.eval()
    images = (torch.stack(dataset.images) - 0.5) / 0.25
    out = torch.cat([encoder(chunk) for chunk in images.split(100)])
    encoder.train()
    return out.numpy(), dataset.targets


def linear_probe(encoder, train_set, test_set):
    x, y = features(encoder, train_set)
    x_test, y_test = features(encoder, test_set)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    return probe.fit(x, y).score(x_test, y_test)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train_set, test_set = Shapes(train=True), Shapes(train=False)
    loader = DataLoader(TwoViews(train_set.images), batch_size=60, shuffle=True, drop_last=True)
    model = SimCLR()
    print(f"random encoder: probe {linear_probe(model.encoder, train_set, test_set):.3f}")
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-5)
    epochs = 24
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(loader))
    for epoch in range(epochs):
        model.train()
        total, hits = 0.0, 0.0
        for view1, view2 in loader:
            z = model(torch.cat([view1, view2]))
            z1, z2 = z.chunk(2)
            loss = info_nce(z1, z2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
            hits += ((z1 @ z2.t()).argmax(1) == torch.arange(len(z1))).float().mean().item()
        message = f"epoch {epoch + 1}: loss {total / len(loader):.3f} match {hits / len(loader):.3f}"
        if (epoch + 1) % 3 == 0:
            message += f" probe {linear_probe(model.encoder, train_set, test_set):.3f}"
        print(message)


if __name__ == "__main__":
    main()
