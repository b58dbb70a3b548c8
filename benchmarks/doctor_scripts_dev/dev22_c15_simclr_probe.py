"""SimCLR on colored shapes: no labels while the encoder is trained; a linear probe on its features measures it."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class Images(Dataset):
    """Only the images, without their labels."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


class TwoViews:
    """Two random views of each image of a batch: moved, mirrored, lighter or darker, noisier. Colors stay what they are."""

    def __init__(self, mean, std, reach=2):
        self.mean, self.std, self.reach = mean, std, reach

    def view(self, images):
        count, size = len(images), images.shape[-1]
        padded = F.pad(images, [self.reach] * 4, value=0.5)  # the gray of the ground
        windows = padded.unfold(2, size, 1).unfold(3, size, 1)
        tops, lefts = torch.randint(0, 2 * self.reach + 1, (2, count))
        images = windows[torch.arange(count), :, tops, lefts]
        images = torch.where(torch.rand(count, 1, 1, 1) < 0.5, images.flip(3), images)
        images = torch.where(torch.rand(count, 1, 1, 1) < 0.5, images.flip(2), images)
        contrast = 0.7 + 0.6 * torch.rand(count, 1, 1, 1)
        images = 0.5 + contrast * (images - 0.5) + 0.05 * torch.randn_like(images)
        return self.standardize(images)

    def standardize(self, images):
        return (images - self.mean) / self.std

    def __call__(self, images):
        return self.view(images), self.view(images)


class SimCLR(nn.Module):
    def __init__(self, features=64, projection=32):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, features, 3, padding=1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.projector = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, projection))

    def forward(self, x):
        return self.projector(self.encoder(x))


def nt_xent(first, second, temperature=0.2):
    """Each view is to find the other view of its image among all of the batch; itself is left out."""
    z = F.normalize(torch.cat([first, second]), dim=1)
    similarity = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = similarity.masked_fill(itself, -1e9)
    partner = torch.arange(len(z), device=z.device).roll(len(first))
    return F.cross_entropy(similarity, partner), (similarity.argmax(1) == partner).float().mean()


@torch.no_grad()
def extract(model, images):
    model.eval()
    return torch.cat([model.encoder(part) for part in images.split(100)]).numpy()


def linear_probe(model, train_images, train_labels, valid_images, valid_labels):
    train, valid = extract(model, train_images), extract(model, valid_images)
    center, scale = train.mean(0), train.std(0) + 1e-6
    probe = LogisticRegression(max_iter=300, C=10.0)
    probe.fit((train - center) / scale, train_labels)
    return probe.score((valid - center) / scale, valid_labels)


def main(epochs=30, batch_size=48):
    torch.manual_seed(8)
    train, valid = Shapes(train=True, count=1440), Shapes(train=False, count=300)
    train_images, valid_images = torch.stack(train.images), torch.stack(valid.images)
    train_labels, valid_labels = np.array(train.targets), np.array(valid.targets)
    views = TwoViews(train_images.mean((0, 2, 3), keepdim=True), train_images.std((0, 2, 3), keepdim=True))
    loader = DataLoader(Images(train_images), batch_size=batch_size, shuffle=True, drop_last=True)
    probe_data = (views.standardize(train_images), train_labels, views.standardize(valid_images), valid_labels)

    model = SimCLR()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(loader), eta_min=1e-5)
    for epoch in range(1, epochs + 1):
        model.train()
        losses, hits = [], []
        for images in loader:
            first, second = views(images)
            # both views in one batch, so that batch norm sees them alike
            projections = model(torch.cat([first, second]))
            loss, hit = nt_xent(*projections.chunk(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
            hits.append(hit.item())
        print(
            f"epoch {epoch:2d} contrastive loss {np.mean(losses):.4f} partner found {np.mean(hits):.3f} "
            f"linear probe {linear_probe(model, *probe_data):.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
