import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset
from toydata import Shapes


class HeatmapDataset(Dataset):
    def __init__(self, train, sigma=1.5):
        self.shapes, self.train, self.sigma = Shapes(train=train, count=500 if train else 120), train, sigma

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, idx):
        image, box = self.shapes.images[idx], self.shapes.boxes[idx]
        joint = torch.stack([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]) * 15
        if self.train and torch.rand(()) < 0.5:
            image = image.flip(-1)
            joint = torch.stack([15 - joint[0], joint[1]])
        y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
        heatmap = torch.exp(-((x - joint[0]) ** 2 + (y - joint[1]) ** 2) / (2 * self.sigma**2))
        return image, heatmap.unsqueeze(0), joint


class PoseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 5, padding=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 5, padding=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 5, padding=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        )
        self.final_layer = nn.Conv2d(16, 1, 1)

    def forward(self, x):
        return self.final_layer(self.layers(x))


def get_max_preds(heatmaps):
    index = heatmaps.flatten(1).argmax(1)
    return torch.stack([index % 16, index // 16], dim=1).float()


def validate(loader, model):
    model.eval()
    errors = []
    with torch.no_grad():
        for input, target, joint in loader:
            errors.append((get_max_preds(model(input)) - joint).norm(dim=1))
    return (torch.cat(errors) < 2).float().mean().item()


def main():
    torch.manual_seed(0)
    train_loader = DataLoader(HeatmapDataset(True), batch_size=32, shuffle=True)
    valid_loader = DataLoader(HeatmapDataset(False), batch_size=32)
    model = PoseNet()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(5):
        model.train()
        for input, target, _ in train_loader:
            loss = criterion(model(input), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.5f} PCK {validate(valid_loader, model):.3f}")


if __name__ == "__main__":
    main()
