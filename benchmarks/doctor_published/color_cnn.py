"""Colored shapes by a network of convolutions with batch norm."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from toydata import Shapes


class Pictures(Dataset):
    """Arrays of bytes, height x width x colors, as an image library reads them."""

    def __init__(self, train=True, count=None, augment=False):
        shapes = Shapes(train=train, count=count)
        images = torch.stack(shapes.images).permute(0, 2, 3, 1).numpy()
        self.arrays = (images * 255).astype(np.uint8)
        self.labels = np.array(shapes.targets)
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        array = self.arrays[index]
        image = torch.from_numpy(array).permute(2, 0, 1).float()
        image = image / 127.5 - 1
        if self.augment and np.random.rand() < 0.5:
            image = image.flip(-1)
        return image, int(self.labels[index])


def block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class ShapeNet(nn.Module):
    def __init__(self, dropout=0.1):
        super().__init__()
        self.features = nn.Sequential(
            block(3, 16), block(16, 16), nn.MaxPool2d(2), nn.Dropout(dropout),
            block(16, 32), block(32, 32), nn.MaxPool2d(2), nn.Dropout(dropout),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 6))

    def forward(self, x):
        return self.classifier(self.features(x))


def evaluate(net, loader):
    net.eval()
    with torch.no_grad():
        return np.mean([hit for x, y in loader for hit in (net(x).argmax(1) == y).tolist()])


torch.manual_seed(4)
np.random.seed(4)
train_pictures = Pictures(train=True, count=1800, augment=True)
valid_pictures = Pictures(train=False)
train_loader = DataLoader(train_pictures, batch_size=50, shuffle=True)
valid_loader = DataLoader(valid_pictures, batch_size=120)
net = ShapeNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
for epoch in range(8):
    net.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}, valid accuracy {evaluate(net, valid_loader):.3f}")
