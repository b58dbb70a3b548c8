"""RotNet: learn to tell by how much letters are turned, then use the trunk with few labels."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

LETTERS = {"F": "74644", "J": "11157", "L": "44447", "P": "75744", "R": "75765", "4": "55711"}


def letters(count, size=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(LETTERS), (count,), generator=g)
    images = torch.zeros(count, 1, size, size)
    glyphs = []
    for code in LETTERS.values():
        rows = torch.tensor([[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in code]).float()
        glyphs.append(rows.repeat_interleave(2, 0).repeat_interleave(2, 1))
    for i, label in enumerate(labels.tolist()):
        top = int(torch.randint(1, size - 10, (1,), generator=g))
        left = int(torch.randint(3, size - 8, (1,), generator=g))
        strength = 0.6 + 0.4 * torch.rand((), generator=g)
        images[i, 0, top : top + 10, left : left + 6] = glyphs[label] * strength
    images += 0.12 * torch.randn(images.shape, generator=g)
    return (images - 0.15) / 0.32, labels


def rotate_batch(x):
    """All four rotations of each image, with the number of quarter turns."""
    turned = torch.cat([torch.rot90(x, k, (2, 3)) for k in range(4)])
    return turned, torch.arange(4).repeat_interleave(len(x))


class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.norm1, self.norm2, self.norm3 = nn.GroupNorm(4, 16), nn.GroupNorm(4, 32), nn.GroupNorm(4, 32)
        self.fc = nn.Linear(32 * 16, 64)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        x = F.relu(self.norm3(self.conv3(x)))
        return F.relu(self.fc(x.flatten(1)))


def pretrain(trunk, loader, val_images, epochs):
    head = nn.Linear(64, 4)
    model = nn.Sequential(trunk, head)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 2, epochs * 4 // 5], gamma=0.2)
    val_x, val_k = rotate_batch(val_images)
    for epoch in range(epochs):
        model.train()
        for (x,) in loader:
            turned, k = rotate_batch(x)
            loss = F.cross_entropy(model(turned), k)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(val_x).argmax(1) == val_k).float().mean().item()
        print(f"pretext epoch {epoch + 1}: loss {loss.item():.3f} rotation accuracy {accuracy:.3f}")


def classify(trunk, train, val, epochs=25):
    model = nn.Sequential(trunk, nn.Linear(64, len(LETTERS)))
    optimizer = torch.optim.Adam(
        [{"params": model[0].parameters(), "lr": 3e-4}, {"params": model[1].parameters(), "lr": 3e-3}]
    )
    loader = DataLoader(TensorDataset(*train), batch_size=20, shuffle=True)
    for epoch in range(epochs):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        if (epoch + 1) % 5 == 0:
            model.eval()
            with torch.no_grad():
                accuracy = (model(val[0]).argmax(1) == val[1]).float().mean().item()
            print(f"letters epoch {epoch + 1}: accuracy {accuracy:.3f}")


def main():
    torch.manual_seed(11)
    torch.set_num_threads(1)
    images, _ = letters(800, seed=1)
    val_images, val_labels = letters(200, seed=2)
    few_images, few_labels = letters(120, seed=3)
    loader = DataLoader(TensorDataset(images), batch_size=16, shuffle=True)
    trunk = Trunk()
    pretrain(trunk, loader, val_images, epochs=9)
    classify(trunk, (few_images, few_labels), (val_images, val_labels))


if __name__ == "__main__":
    main()
