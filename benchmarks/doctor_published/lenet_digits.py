"""A LeNet for small digits, trained by SGD with momentum."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from toydata import draw_digits


class LeNet(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, 5, padding=2)
        self.dense = nn.Linear(32 * 4 * 4, 96)
        self.drop = nn.Dropout(0.25)
        self.out = nn.Linear(96, classes)

    def forward(self, x):
        h = F.relu(self.conv1(x))
        h = F.max_pool2d(h, 2)
        h = F.relu(self.conv2(h))
        h = F.max_pool2d(h, 2)
        h = h.flatten(1)
        h = F.relu(self.dense(h))
        h = self.drop(h)
        return self.out(h)


def prepared(images):
    return (images.float() / 255 - 0.15) / 0.32


def loss_of(scores, labels):
    return F.cross_entropy(scores, labels)


def accuracy(net, loader):
    net.eval()
    right = seen = 0
    with torch.no_grad():
        for images, labels in loader:
            right += (net(images).argmax(1) == labels).sum().item()
            seen += len(labels)
    return right / seen


def main():
    torch.manual_seed(0)
    images, labels = draw_digits(1600, seed=3)
    test_images, test_labels = draw_digits(400, seed=4)
    train_set = TensorDataset(prepared(images), labels)
    test_set = TensorDataset(prepared(test_images), test_labels)
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=200)
    net = LeNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)
    for epoch in range(8):
        net.train()
        total = 0.0
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = loss_of(net(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: loss {total / len(train_loader):.3f}, test accuracy {accuracy(net, test_loader):.3f}")


main()
