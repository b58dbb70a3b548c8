# Reading analog gauges: a CNN gives the direction of the needle as (sin, cos).
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


def render_gauges(n, seed, size=32):
    g = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(n, generator=g)
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    center = (size - 1) / 2 + 4 * torch.rand(n, 2, generator=g) - 2
    dy, dx = y - center[:, 0, None, None], x - center[:, 1, None, None]
    sin, cos = angle.sin()[:, None, None], angle.cos()[:, None, None]
    along = dx * cos + dy * sin          # along the needle
    across = (dy * cos - dx * sin).abs()
    radius = (dx**2 + dy**2).sqrt()
    needle = ((along > 0) & (along < 10) & (across < 1.1)).float()
    rim = ((radius - 12).abs() < 1).float()
    face = (radius < 12).float()
    light = 0.8 + 0.4 * torch.rand(n, 1, 1, generator=g)
    image = (0.3 + 0.5 * face - 0.3 * rim - 0.6 * needle) * light
    image = image + 0.05 * torch.randn(image.shape, generator=g)
    return image.clamp(0, 1).unsqueeze(1), angle


class GaugeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(),
        )
        self.regressor = nn.Sequential(nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, x):
        return self.regressor(self.features(x))


class Trainer:
    def __init__(self, model, train_set, val_set, lr=1e-3, batch_size=32, device="cpu"):
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=True)
        self.val_loader = DataLoader(val_set, batch_size=100)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, factor=0.3, patience=3)
        self.history = []

    def loss(self, output, angle):
        target = torch.stack([angle.sin(), angle.cos()], dim=1)
        return F.mse_loss(output, target)

    def train_epoch(self):
        self.model.train()
        losses = []
        for image, angle in self.train_loader:
            image, angle = image.to(self.device), angle.to(self.device)
            self.optimizer.zero_grad()
            loss = self.loss(self.model(image), angle)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)

    def validate(self):
        self.model.eval()
        total, degrees, count = 0.0, 0.0, 0
        with torch.no_grad():
            for image, angle in self.val_loader:
                image, angle = image.to(self.device), angle.to(self.device)
                output = self.model(image)
                total += self.loss(output, angle).item() * len(image)
                difference = torch.atan2(output[:, 0], output[:, 1]) - angle
                difference = torch.atan2(difference.sin(), difference.cos())  # into -pi..pi
                degrees += difference.abs().sum().item() * 180 / math.pi
                count += len(image)
        return total / count, degrees / count

    def run(self, epochs):
        for epoch in range(1, epochs + 1):
            train_loss = self.train_epoch()
            val_loss, degrees = self.validate()
            self.scheduler.step(val_loss)
            self.history.append(degrees)
            print(f"Epoch {epoch:3d} | train {train_loss:.4f} | val {val_loss:.4f} | error {degrees:.2f} degrees")
        return min(self.history)


def main():
    torch.manual_seed(0)
    train_x, train_angle = render_gauges(1920, seed=1)
    val_x, val_angle = render_gauges(400, seed=2)
    mean, std = train_x.mean(), train_x.std()
    train_set = TensorDataset((train_x - mean) / std, train_angle)
    val_set = TensorDataset((val_x - mean) / std, val_angle)
    trainer = Trainer(GaugeNet(), train_set, val_set)
    best = trainer.run(epochs=20)
    print(f"best error {best:.2f} degrees")


if __name__ == "__main__":
    main()
