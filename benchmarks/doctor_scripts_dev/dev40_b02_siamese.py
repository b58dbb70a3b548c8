import argparse
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


class SiameseNetwork(nn.Module):
    """Maps an image to a point of the unit sphere; both images of a pair go through the same layers."""

    def __init__(self, dim=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 128),
            nn.ReLU(),
        )
        self.embed = nn.Linear(128, dim)

    def forward_once(self, x):
        return F.normalize(self.embed(self.features(x)), dim=1)

    def forward(self, input1, input2):
        return self.forward_once(input1), self.forward_once(input2)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=1.0):
        super().__init__()
        self.margin = margin

    def forward(self, output1, output2, target):
        distance = F.pairwise_distance(output1, output2)
        near = distance.pow(2)
        far = F.relu(self.margin - distance).pow(2)
        return (target * near + (1 - target) * far).mean()


class DigitMatcher(Dataset):
    """Pairs of digits, half of them of the same class. For testing the pairs are fixed."""

    def __init__(self, images, labels, fixed=False):
        self.images, self.labels = images, labels.tolist()
        self.fixed = fixed
        self.by_class = {c: [i for i, label in enumerate(self.labels) if label == c] for c in range(10)}

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        rng = random.Random(index) if self.fixed else random
        label = self.labels[index]
        same = rng.random() < 0.5
        if same:
            partner = rng.choice([i for i in self.by_class[label] if i != index])
        else:
            partner = rng.choice(self.by_class[(label + rng.randint(1, 9)) % 10])
        return self.images[index], self.images[partner], torch.tensor(float(same))


def train(args, model, train_loader, criterion, optimizer, epoch):
    model.train()
    for batch_idx, (image1, image2, target) in enumerate(train_loader):
        optimizer.zero_grad()
        output1, output2 = model(image1, image2)
        loss = criterion(output1, output2, target)
        loss.backward()
        optimizer.step()
        if batch_idx % args.log_interval == 0:
            print("Train Epoch: {} [{}/{}]\tLoss: {:.6f}".format(
                epoch, batch_idx * len(image1), len(train_loader.dataset), loss.item()))


def test(model, test_loader, criterion):
    model.eval()
    test_loss = 0
    correct = 0
    with torch.no_grad():
        for image1, image2, target in test_loader:
            output1, output2 = model(image1, image2)
            test_loss += criterion(output1, output2, target).item() * len(target)
            distance = F.pairwise_distance(output1, output2)
            pred = distance < criterion.margin / 2
            correct += pred.eq(target.bool()).sum().item()
    test_loss /= len(test_loader.dataset)
    print("\nTest set: Average loss: {:.4f}, Accuracy: {}/{} ({:.1f}%)\n".format(
        test_loss, correct, len(test_loader.dataset), 100. * correct / len(test_loader.dataset)))


def main():
    parser = argparse.ArgumentParser(description="PyTorch Siamese network Example")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--test-batch-size", type=int, default=100, metavar="N")
    parser.add_argument("--epochs", type=int, default=14, metavar="N")
    parser.add_argument("--lr", type=float, default=0.002, metavar="LR")
    parser.add_argument("--gamma", type=float, default=0.85, metavar="M")
    parser.add_argument("--margin", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--log-interval", type=int, default=20, metavar="N")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    random.seed(args.seed)

    images, labels = draw_digits(1500)
    order = torch.randperm(len(images))
    train_idx, test_idx = order[:1200], order[1200:]
    images = images.float().div(255)
    images = (images - images[train_idx].mean()) / images[train_idx].std()
    train_dataset = DigitMatcher(images[train_idx], labels[train_idx])
    test_dataset = DigitMatcher(images[test_idx], labels[test_idx], fixed=True)
    train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(test_dataset, batch_size=args.test_batch_size)

    model = SiameseNetwork()
    criterion = ContrastiveLoss(args.margin)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    scheduler = StepLR(optimizer, step_size=1, gamma=args.gamma)

    for epoch in range(1, args.epochs + 1):
        train(args, model, train_loader, criterion, optimizer, epoch)
        test(model, test_loader, criterion)
        scheduler.step()


if __name__ == "__main__":
    main()
