"""Finds the center of a shape: a heat map, its expected position, and a penalty on maps that spread."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

SIZE = 24


class Centers(Dataset):
    def __init__(self, train):
        shapes = Shapes(train=train, count=900 if train else 240, size=SIZE)
        self.images = [(image - 0.5) / 0.25 for image in shapes.images]
        self.centers = [(box[:2] + box[2:]) / 2 for box in shapes.boxes]
        self.flip = train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, center = self.images[index], self.centers[index].clone()
        if self.flip:
            for axis in (0, 1):  # x, y
                if torch.rand(()) < 0.5:
                    image = image.flip(2 - axis)
                    center[axis] = 1 - center[axis]
        return image, center


class HeatMap(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=3, dilation=3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 1, 1),
        )
        self.log_sharpness = nn.Parameter(torch.zeros(()))
        cells = (torch.arange(SIZE // 2).float() + 0.5) / (SIZE // 2)
        y, x = torch.meshgrid(cells, cells, indexing="ij")
        self.register_buffer("grid", torch.stack([x.flatten(), y.flatten()], 1))

    def forward(self, images):
        heat = self.layers(images).flatten(1) * self.log_sharpness.exp()
        weights = heat.softmax(1)
        center = weights @ self.grid
        spread = (weights * (center.unsqueeze(1) - self.grid).pow(2).sum(2)).sum(1)
        return center, spread


def error_in_pixels(model, loader):
    model.eval()
    distance, count = 0.0, 0
    with torch.no_grad():
        for images, centers in loader:
            guess, _ = model(images)
            distance += (guess - centers).mul(SIZE).norm(dim=1).sum().item()
            count += len(images)
    return distance / count


def fit(model, train_loader, valid_loader, epochs):
    slow = [model.log_sharpness]
    rest = list(model.layers.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": rest, "lr": 3e-3, "weight_decay": 1e-3}, {"params": slow, "lr": 1e-3, "weight_decay": 0.0}]
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[3e-3, 1e-3], total_steps=epochs * len(train_loader))
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for images, centers in train_loader:
            guess, spread = model(images)
            loss = F.smooth_l1_loss(guess * SIZE, centers * SIZE) + 4.0 * spread.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(images)
        print(
            f"epoch {epoch + 1:2d} loss {total / len(train_loader.dataset):.4f} "
            f"error {error_in_pixels(model, valid_loader):.3f} pixels"
        )


if __name__ == "__main__":
    torch.manual_seed(6)
    torch.set_num_threads(1)
    train_set, valid_set = Centers(train=True), Centers(train=False)
    middle = torch.stack(train_set.centers).mean(0)
    naive = (torch.stack(valid_set.centers) - middle).mul(SIZE).norm(dim=1).mean()
    print(f"always the mean center: {naive:.3f} pixels off")
    fit(HeatMap(), DataLoader(train_set, 30, shuffle=True), DataLoader(valid_set, 60), epochs=16)
