"""Age estimation: a number of years from a picture of a face."""
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset


@dataclass
class Config:
    seed: int = 3
    epochs: int = 14
    batch_size: int = 48
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    val_share: float = 0.2
    widths: list = field(default_factory=lambda: [12, 24, 48])


class Faces(Dataset):
    """Drawn faces of 24 x 24: hair turns gray, lines appear and the face grows longer with age.

    The list comes sorted by age, as in the table that the pictures were listed in.
    """

    def __init__(self, count=1700, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.ages = torch.rand(count, generator=g).mul(62).add(18).sort().values
        y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
        self.images = torch.zeros(count, 1, 24, 24)
        for i, age in enumerate(self.ages.tolist()):
            old = (age - 18) / 62
            cy, cx = 12.5 + torch.randn((), generator=g), 11.5 + torch.randn((), generator=g)
            tall = 7.5 + 2 * old
            inside = ((y - cy) / tall) ** 2 + ((x - cx) / 6.5) ** 2 < 1
            image = torch.full((24, 24), 0.1)
            image[inside] = 0.6
            image[inside & (y < cy - 4)] = 0.15 + 0.4 * old
            lines = inside & (y > cy + 1) & (((y - cy).round() % 3) == 0)
            image[lines] -= 0.3 * old
            light = 0.7 + 0.6 * torch.rand((), generator=g)
            self.images[i, 0] = light * image + 0.05 * torch.randn(24, 24, generator=g)
        self.target_mean, self.target_std = 0.0, 1.0

    def fit_scales(self, indices):
        pixels, ages = self.images[indices], self.ages[indices]
        self.images = (self.images - pixels.mean()) / pixels.std()
        self.target_mean, self.target_std = ages.mean(), ages.std()

    def to_years(self, outputs):
        return outputs * self.target_std + self.target_mean

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        target = (self.ages[index] - self.target_mean) / self.target_std
        return self.images[index], target, self.ages[index]


class AgeNet(nn.Module):
    def __init__(self, widths):
        super().__init__()
        layers, last = [], 1
        for width in widths:
            layers += [nn.Conv2d(last, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            last = width
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(nn.Linear(last * 9, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, images):
        return self.head(self.body(images))


class Trainer:
    def __init__(self, config):
        self.config = config
        torch.manual_seed(config.seed)
        self.data = Faces()
        held_out = torch.rand(len(self.data)) < config.val_share
        train_indices, val_indices = (~held_out).nonzero().flatten(), held_out.nonzero().flatten()
        self.data.fit_scales(train_indices)
        self.train_loader = DataLoader(Subset(self.data, train_indices.tolist()), config.batch_size, shuffle=True, drop_last=True)
        self.val_loader = DataLoader(Subset(self.data, val_indices.tolist()), batch_size=128)
        self.model = AgeNet(config.widths)
        self.criterion = nn.MSELoss()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=config.epochs)

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for images, targets, _ in self.train_loader:
            self.optimizer.zero_grad()
            outputs = self.model(images)
            loss = self.criterion(outputs.squeeze(1), targets)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.train_loader)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        error, count = 0.0, 0
        for images, _, ages in self.val_loader:
            years = self.data.to_years(self.model(images)[:, 0])
            error += (years - ages).abs().sum().item()
            count += len(ages)
        return error / count

    def fit(self):
        for epoch in range(1, self.config.epochs + 1):
            loss = self.train_epoch()
            mae = self.evaluate()
            self.scheduler.step()
            print(f"epoch {epoch:2d}  loss {loss:.4f}  val MAE {mae:.2f} years")


if __name__ == "__main__":
    Trainer(Config()).fit()
