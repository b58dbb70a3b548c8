"""Knowledge distillation: a wide network for textures is trained first, then a narrow one learns from it."""

import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Gratings(Dataset):
    """Stripes of four directions and two widths, with any phase: eight classes."""

    def __init__(self, count, seed, size=16, noise=0.4):
        g = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 8, (count,), generator=g)
        angle = (self.labels % 4) * math.pi / 4 + 0.1 * torch.randn(count, generator=g)
        frequency = torch.where(self.labels < 4, torch.tensor(0.8), torch.tensor(1.6))
        phase = 2 * math.pi * torch.rand(count, generator=g)
        y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
        along = angle.cos()[:, None, None] * x + angle.sin()[:, None, None] * y
        waves = torch.sin(frequency[:, None, None] * along + phase[:, None, None])
        self.images = (waves + noise * torch.randn(waves.shape, generator=g)).unsqueeze(1)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def conv_bn(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class ConvNet(nn.Module):
    def __init__(self, width, feature_dim=64, num_classes=8):
        super().__init__()
        self.stages = nn.Sequential(
            conv_bn(1, width),
            conv_bn(width, 2 * width, stride=2),
            conv_bn(2 * width, 2 * width),
            conv_bn(2 * width, feature_dim),
        )
        self.fc = nn.Linear(feature_dim, num_classes)

    def forward(self, x):
        features = self.stages(x).mean(dim=(2, 3))
        return self.fc(features)


class DistillationLoss(nn.Module):
    def __init__(self, alpha, temperature):
        super().__init__()
        self.alpha, self.T = alpha, temperature

    def forward(self, student_logits, teacher_logits, labels):
        soft = F.kl_div(
            F.log_softmax(student_logits / self.T, dim=1),
            F.softmax(teacher_logits / self.T, dim=1),
            reduction="batchmean",
        )
        hard = F.cross_entropy(student_logits, labels)
        return self.alpha * self.T**2 * soft + (1 - self.alpha) * hard


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = 0
    for images, labels in loader:
        correct += (model(images).argmax(dim=1) == labels).sum().item()
    return correct / len(loader.dataset)


def train_teacher(teacher, train_loader, val_loader, args):
    optimizer = torch.optim.Adam(teacher.parameters(), lr=args.lr)
    for epoch in range(args.teacher_epochs):
        teacher.train()
        for images, labels in train_loader:
            loss = F.cross_entropy(teacher(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"teacher {epoch}: val accuracy {evaluate(teacher, val_loader):.3f}")


def distill(student, teacher, train_loader, val_loader, args):
    teacher.eval()
    criterion = DistillationLoss(args.alpha, args.temperature)
    optimizer = torch.optim.Adam(student.parameters(), lr=args.lr)
    for epoch in range(args.student_epochs):
        student.train()
        for images, labels in train_loader:
            with torch.no_grad():
                teacher_logits = teacher(images)
            loss = criterion(student(images), teacher_logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"student {epoch}: val accuracy {evaluate(student, val_loader):.3f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher-epochs", type=int, default=4)
    parser.add_argument("--student-epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--alpha", type=float, default=0.7)
    parser.add_argument("--temperature", type=float, default=3.0)
    args = parser.parse_args()
    torch.manual_seed(0)

    train_loader = DataLoader(Gratings(960, seed=0), args.batch_size, shuffle=True)
    val_loader = DataLoader(Gratings(240, seed=1), 80)
    teacher, student = ConvNet(width=16), ConvNet(width=6)
    train_teacher(teacher, train_loader, val_loader, args)
    distill(student, teacher, train_loader, val_loader, args)


if __name__ == "__main__":
    main()
