"""Five points of a shape (corners and center) and its name, from one network."""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

# top left, top right, bottom right, bottom left, center; and who is who in a mirror
MIRROR = [1, 0, 3, 2, 4]


@dataclass
class Config:
    seed: int = 5
    size: int = 16
    epochs: int = 14
    batch_size: int = 50
    max_lr: float = 5e-3
    name_weight: float = 0.3


class PointSet(Dataset):
    def __init__(self, train, size, mirror=False):
        shapes = Shapes(train=train, size=size)
        self.images = (torch.stack(shapes.images) - 0.48) / 0.18
        left, top, right, bottom = torch.stack(shapes.boxes).unbind(dim=1)
        xs = torch.stack([left, right, right, left, (left + right) / 2], dim=1)
        ys = torch.stack([top, top, bottom, bottom, (top + bottom) / 2], dim=1)
        self.points = torch.stack([xs, ys], dim=2)
        self.names = torch.tensor(shapes.targets)
        self.mirror = mirror

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, points = self.images[index], self.points[index]
        if self.mirror and torch.rand(()) < 0.5:
            image = image.flip(-1)
            points = torch.stack([1 - points[:, 0], points[:, 1]], dim=1)[MIRROR]
        return image, points, self.names[index]


def encode(points):
    return (points - 0.5) / 0.25


def decode(outputs):
    return outputs * 0.25 + 0.5


class PointNet(nn.Module):
    def __init__(self, point_count=5, name_count=len(NAMES)):
        super().__init__()
        self.point_count = point_count
        widths = [3, 24, 32, 48]
        layers = []
        for i in range(3):
            layers += [nn.Conv2d(widths[i], widths[i + 1], 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(widths[i + 1]), nn.ReLU(inplace=True)]
            if i > 0:
                layers += [nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(48 * 4 * 4, 96), nn.ReLU(inplace=True))
        self.to_points = nn.Linear(96, 2 * point_count)
        self.to_names = nn.Linear(96, name_count)

    def forward(self, images):
        features = self.body(images)
        return self.to_points(features).view(-1, self.point_count, 2), self.to_names(features)


class Learner:
    def __init__(self, config, model, train_loader, valid_loader):
        self.config, self.model = config, model
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.optimizer = torch.optim.Adam(model.parameters(), lr=config.max_lr)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, config.max_lr, total_steps=config.epochs * len(train_loader)
        )

    def one_batch(self, images, points, names):
        predicted, scores = self.model(images)
        point_loss = F.smooth_l1_loss(predicted, encode(points))
        name_loss = F.cross_entropy(scores, names)
        loss = point_loss + self.config.name_weight * name_loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return point_loss.detach(), name_loss.detach()

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        distances, hits = [], []
        for images, points, names in self.valid_loader:
            predicted, scores = self.model(images)
            distances.append((decode(predicted) - points).norm(dim=2) * self.config.size)
            hits.append(scores.argmax(dim=1) == names)
        distances, hits = torch.cat(distances), torch.cat(hits)
        return {
            "pixels": distances.mean().item(),
            "within 1.5": (distances < 1.5).float().mean().item(),
            "names": hits.float().mean().item(),
        }

    def fit(self):
        for epoch in range(self.config.epochs):
            self.model.train()
            point_loss, name_loss = 0.0, 0.0
            for batch in self.train_loader:
                new_point_loss, new_name_loss = self.one_batch(*batch)
                point_loss += new_point_loss / len(self.train_loader)
                name_loss += new_name_loss / len(self.train_loader)
            row = {"points": float(point_loss), "naming": float(name_loss), **self.validate()}
            print(epoch, "  ".join(f"{name} {value:.3f}" for name, value in row.items()))


if __name__ == "__main__":
    config = Config()
    torch.manual_seed(config.seed)
    train_loader = DataLoader(PointSet(True, config.size, mirror=True), config.batch_size, shuffle=True)
    valid_loader = DataLoader(PointSet(False, config.size), 120)
    Learner(config, PointNet(), train_loader, valid_loader).fit()
