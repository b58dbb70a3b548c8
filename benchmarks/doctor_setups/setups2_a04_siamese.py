"""Siamese embeddings of digits as a Lightning-like module: two views of each image, a contrastive loss over all pairs."""

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader

from toydata import Digits


class TwoViews:
    """Moves the images by up to a pixel and adds a little noise."""

    def __init__(self, shift=1, noise=0.05):
        self.shift, self.noise = shift, noise

    def __call__(self, x):
        dy, dx = torch.randint(-self.shift, self.shift + 1, (2,)).tolist()
        x = torch.roll(x, (dy, dx), dims=(2, 3))
        return x + self.noise * torch.randn_like(x)


class ContrastiveLoss(nn.Module):
    """Hadsell, Chopra and LeCun 2006: equal pairs together, unequal ones apart by at least the margin."""

    def __init__(self, margin=1.0):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        difference = embeddings.unsqueeze(1) - embeddings.unsqueeze(0)
        distance = (difference.pow(2).sum(-1) + 1e-8).sqrt()
        same = labels.unsqueeze(1) == labels.unsqueeze(0)
        pairs = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive = distance[same & pairs].pow(2)
        negative = F.relu(self.margin - distance[~same & pairs]).pow(2)
        return positive.sum() / max(len(positive), 1) + negative.sum() / max(len(negative), 1)


class SiameseModel(nn.Module):
    def __init__(self, hparams):
        super().__init__()
        self.hparams = hparams
        width = hparams["width"]
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.projection = nn.Sequential(
            nn.Linear(2 * width * 4 * 4, 64), nn.ReLU(), nn.Linear(64, hparams["embedding"])
        )
        self.augment = TwoViews()
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(module):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)

    def forward(self, x):
        return F.normalize(self.projection(self.encoder(x)), dim=1)

    def training_step(self, batch, criterion):
        x, y = batch
        views = torch.cat([self.augment(x), self.augment(x)])
        labels = torch.cat([y, y])
        return criterion(self(views), labels)

    def configure_optimizers(self):
        return optim.Adam(self.parameters(), lr=self.hparams["lr"])


class DigitsDataModule:
    def __init__(self, batch_size):
        self.batch_size = batch_size
        self.transform = lambda image: (image.float() / 255 - 0.2) / 0.3

    def train_dataloader(self):
        dataset = Digits(train=True, transform=self.transform)
        return DataLoader(dataset, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(Digits(train=False, transform=self.transform), 100)


def fit_step(model, batch, optimizer, criterion):
    """What the trainer does with each batch."""
    loss = model.training_step(batch, criterion)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(7)
    hparams = dict(width=12, embedding=16, lr=1e-3, batch_size=48)
    model = SiameseModel(hparams)
    data = DigitsDataModule(hparams["batch_size"])
    return {
        "model": model,
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "loss": ContrastiveLoss(margin=1.0),
        "optimizer": model.configure_optimizers(),
        "step": fit_step,
    }
