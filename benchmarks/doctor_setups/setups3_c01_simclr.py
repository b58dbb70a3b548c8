"""SimCLR pre-training on small digits: two random views of each image, NT-Xent between them."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from toydata import draw_digits

CFG = {"batch_size": 48, "temperature": 0.5, "width": 16, "feature_dim": 64, "proj_dim": 32, "lr": 1e-3, "weight_decay": 1e-6}


class RandomView:
    """Shift by up to two pixels, change of contrast, a little noise."""

    def __init__(self, shift=2, noise=0.15):
        self.shift, self.noise = shift, noise

    def __call__(self, image):
        dy, dx = torch.randint(-self.shift, self.shift + 1, (2,)).tolist()
        view = torch.roll(image, (dy, dx), dims=(-2, -1)) * (0.7 + 0.6 * float(torch.rand(())))
        return view + self.noise * torch.randn_like(view)


class ContrastivePairs(Dataset):
    def __init__(self, images, targets, transform):
        self.images, self.targets, self.transform = images, targets, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        views = torch.stack([self.transform(image), self.transform(image)])
        return views, int(self.targets[index])


def fixed_pairs(images, targets, transform):
    """Views that are drawn once, so that the validation loss is the same for the same weights."""
    pairs = ContrastivePairs(images, targets, transform)
    items = [pairs[index] for index in range(len(pairs))]
    return TensorDataset(torch.stack([views for views, _ in items]), torch.tensor([target for _, target in items]))


class SimCLR(nn.Module):
    def __init__(self, width, feature_dim, proj_dim):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(2 * width * 16, feature_dim), nn.ReLU(),
        )
        self.projector = nn.Sequential(nn.Linear(feature_dim, feature_dim), nn.ReLU(), nn.Linear(feature_dim, proj_dim))

    def forward(self, views):  # (N, 2, 1, 16, 16) -> (N, 2, proj_dim)
        n = views.shape[0]
        z = self.projector(self.encoder(views.flatten(0, 1)))
        return F.normalize(z, dim=-1).view(n, 2, -1)


class NTXent(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, z, _targets=None):
        n = z.shape[0]
        z = torch.cat([z[:, 0], z[:, 1]])
        similarity = z @ z.t() / self.temperature
        itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
        similarity = similarity.masked_fill(itself, -1e9)
        positive = torch.cat([torch.arange(n, 2 * n), torch.arange(n)]).to(z.device)
        return F.cross_entropy(similarity, positive)


def setup():
    torch.manual_seed(0)
    transform = RandomView()
    train_images, train_targets = draw_digits(1200, seed=0)
    val_images, val_targets = draw_digits(240, seed=1)
    mean, std = train_images.float().mean(), train_images.float().std()
    train_images, val_images = (train_images.float() - mean) / std, (val_images.float() - mean) / std
    train_set = ContrastivePairs(train_images, train_targets, transform)
    val_set = fixed_pairs(val_images, val_targets, transform)
    model = SimCLR(CFG["width"], CFG["feature_dim"], CFG["proj_dim"])
    return {
        "model": model,
        "train": DataLoader(train_set, batch_size=CFG["batch_size"], shuffle=True, drop_last=True),
        "val": DataLoader(val_set, batch_size=CFG["batch_size"]),
        "loss": NTXent(CFG["temperature"]),
        "optimizer": torch.optim.Adam(model.parameters(), lr=CFG["lr"], weight_decay=CFG["weight_decay"]),
    }
