"""SimCLR on unlabeled digits, then a linear probe (logistic regression) on the frozen encoder.

The probe on an encoder that was never trained is printed too: that is the number to beat.
"""
import copy
import time

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from toydata import draw_digits

EPOCHS, BATCH, TEMPERATURE, LR = 12, 100, 0.2, 2e-3


def augment(x, generator):
    """Per image: shift by up to 3 pixels, brightness, a blank 4x4 patch, noise."""
    n, _, h, w = x.shape
    padded = F.pad(x, (3, 3, 3, 3))
    top, left = torch.randint(0, 7, (2, n), generator=generator)
    rows = top[:, None] + torch.arange(h)
    cols = left[:, None] + torch.arange(w)
    x = padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], cols[:, None, :]].unsqueeze(1)
    x = x * (0.6 + 0.6 * torch.rand(n, 1, 1, 1, generator=generator))
    y0, x0 = torch.randint(0, h - 3, (2, n, 1), generator=generator)
    r = torch.arange(h)
    hole = ((r >= y0) & (r < y0 + 4))[:, :, None] & ((r >= x0) & (r < x0 + 4))[:, None, :]
    x = x.masked_fill(hole[:, None], 0.0)
    return x + 0.08 * torch.randn(x.shape, generator=generator)


def normalize(x):
    return (x - 0.16) / 0.29


class Encoder(nn.Module):
    def __init__(self, width=16, features=64):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, features, 3, padding=1, bias=False), nn.BatchNorm2d(features), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )

    def forward(self, x):
        return self.net(x)


def nt_xent(a, b, temperature):
    z = F.normalize(torch.cat([a, b]), dim=1)
    similarity = z @ z.T / temperature
    similarity.fill_diagonal_(float("-inf"))
    n = len(a)
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(similarity, partner)


@torch.no_grad()
def features(encoder, x):
    encoder.eval()
    return torch.cat([encoder(normalize(part)) for part in x.split(300)]).numpy()


def probe(encoder, labeled, test):
    (x, y), (xt, yt) = labeled, test
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.3))
    classifier.fit(features(encoder, x), y.numpy())
    return classifier.score(features(encoder, xt), yt.numpy())


def main():
    began = time.time()
    torch.manual_seed(50)
    g = torch.Generator().manual_seed(51)
    images, labels = draw_digits(2200, seed=0)
    images = images.float() / 255
    unlabeled = images[:1600]
    labeled = images[1600:1900], labels[1600:1900]
    val = images[1900:], labels[1900:]
    test_images, test_labels = draw_digits(500, seed=1)
    test = test_images.float() / 255, test_labels

    encoder = Encoder()
    untrained = copy.deepcopy(encoder)
    projector = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *projector.parameters()], lr=LR, weight_decay=1e-4)
    steps = EPOCHS * (len(unlabeled) // BATCH)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=steps, pct_start=0.1)
    for epoch in range(EPOCHS):
        encoder.train()
        projector.train()
        mean_loss = 0.0
        for index in torch.randperm(len(unlabeled), generator=g).view(-1, BATCH):
            x = unlabeled[index]
            views = normalize(torch.cat([augment(x, g), augment(x, g)]))
            a, b = projector(encoder(views)).chunk(2)
            loss = nt_xent(a, b, TEMPERATURE)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            mean_loss += loss.item() * BATCH / len(unlabeled)
        if epoch % 3 == 2:
            print(f"epoch {epoch + 1:2d}: contrastive loss {mean_loss:.4f}, probe on validation {probe(encoder, labeled, val):.3f}")
    print(f"test: probe on untrained encoder {probe(untrained, labeled, test):.3f}, on SimCLR encoder {probe(encoder, labeled, test):.3f}")
    print(f"{time.time() - began:.1f} s")


if __name__ == "__main__":
    main()
