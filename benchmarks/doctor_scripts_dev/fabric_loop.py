import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from toydata import Digits
from torch import nn


def to_float(image):
    return image.float().div(255).sub(0.15).div(0.32)


def main():
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.seed_everything(2)
    fabric.launch()
    train_set, val_set = Digits(train=True, transform=to_float), Digits(train=False, transform=to_float)
    train_loader = torch.utils.data.DataLoader(train_set, batch_size=50, shuffle=True)
    val_loader = torch.utils.data.DataLoader(val_set, batch_size=100)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5), nn.BatchNorm2d(12), nn.SiLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3), nn.SiLU(),
        nn.Flatten(), nn.Linear(384, 10))  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model, optimizer = fabric.setup(model, optimizer)
    train_loader, val_loader = fabric.setup_dataloaders(train_loader, val_loader)
    for epoch in range(3):
        model.train()
        for batch_idx, (data, target) in enumerate(train_loader):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(data), target)
            fabric.backward(loss)
            fabric.clip_gradients(model, optimizer, max_norm=2.0)
            optimizer.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for data, target in val_loader:
                right += int((model(data).argmax(dim=1) == target).sum())
        fabric.print(epoch, float(loss), right / len(val_set))


if __name__ == "__main__":
    main()
