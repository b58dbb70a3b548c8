import torch
import torch.nn as nn
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset
from toydata import draw_digits


class Matcher(Dataset):
    """Pairs of digits: target 1 where both show the same digit."""

    def __init__(self, seed, count=800):
        images, labels = draw_digits(count, seed=seed, shift=1)
        self.images = images.float() / 255
        generator = torch.Generator().manual_seed(seed)
        self.pairs = []
        groups = [torch.nonzero(labels == d).flatten() for d in range(10)]
        for i in range(count):
            same = i % 2 == 0
            digit = int(labels[i])
            if not same:
                digit = (digit + int(torch.randint(1, 10, (1,), generator=generator))) % 10
            j = groups[digit][int(torch.randint(0, len(groups[digit]), (1,), generator=generator))]
            self.pairs.append((i, int(j), float(same)))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        i, j, same = self.pairs[index]
        return self.images[i], self.images[j], torch.tensor(same)


class SiameseNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(512, 32),
        )

    def forward(self, input1, input2):
        return self.cnn(input1), self.cnn(input2)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=2.0):
        super().__init__()
        self.margin = margin

    def forward(self, output1, output2, label):
        distance = nn.functional.pairwise_distance(output1, output2)
        return (label * distance.pow(2) + (1 - label) * torch.clamp(self.margin - distance, min=0).pow(2)).mean()


def train(model, train_loader, criterion, optimizer, epoch):
    model.train()
    for batch_idx, (images_1, images_2, targets) in enumerate(train_loader):
        optimizer.zero_grad()
        output1, output2 = model(images_1, images_2)
        loss = criterion(output1, output2, targets)
        loss.backward()
        optimizer.step()
    print(f"Train Epoch: {epoch} Loss: {loss.item():.6f}")


def test(model, test_loader, margin=1.0):
    model.eval()
    correct = 0
    with torch.no_grad():
        for images_1, images_2, targets in test_loader:
            output1, output2 = model(images_1, images_2)
            same = nn.functional.pairwise_distance(output1, output2) < margin
            correct += (same == targets.bool()).sum().item()
    print(f"Test set: accuracy {correct / len(test_loader.dataset):.3f}")


def main():
    torch.manual_seed(1)
    train_loader = DataLoader(Matcher(0), batch_size=32, shuffle=True)
    test_loader = DataLoader(Matcher(1, 200), batch_size=100)
    model = SiameseNetwork()
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, 7):
        train(model, train_loader, ContrastiveLoss(), optimizer, epoch)
        test(model, test_loader)


if __name__ == "__main__":
    main()
