"""Knowledge distillation of digits: a wide teacher, a narrow student, after Hinton et al."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits


def conv_block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    )


class Teacher(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.features = nn.Sequential(conv_block(1, 24), conv_block(24, 48))
        self.classifier = nn.Sequential(nn.Linear(48 * 4 * 4, 96), nn.ReLU(), nn.Dropout(0.2), nn.Linear(96, num_classes))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Student(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.features = nn.Sequential(conv_block(1, 8), conv_block(8, 16))
        self.classifier = nn.Linear(16 * 4 * 4, num_classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class DistillationLoss(nn.Module):
    def __init__(self, temperature, alpha):
        super().__init__()
        self.temperature, self.alpha = temperature, alpha

    def forward(self, student_logits, teacher_logits, labels):
        t = self.temperature
        soft = F.kl_div(
            F.log_softmax(student_logits / t, dim=1), F.softmax(teacher_logits / t, dim=1), reduction="batchmean"
        )
        hard = F.cross_entropy(student_logits, labels)
        return self.alpha * t * t * soft + (1 - self.alpha) * hard


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, n):
        self.sum = self.sum + value * n
        self.count += n

    @property
    def avg(self):
        return float(self.sum) / max(self.count, 1)


def to_input(image):
    return (image.float() / 255 - 0.18) / 0.3


def train_teacher(model, loader, epochs, lr):
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        model.train()
        meter = AverageMeter()
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
            meter.update(loss.detach(), len(labels))
        print(f"teacher epoch {epoch + 1}/{epochs}, loss: {meter.avg:.4f}")


def train_student(teacher, student, loader, criterion, epochs, lr):
    optimizer = torch.optim.Adam(student.parameters(), lr=lr)
    teacher.eval()
    for epoch in range(epochs):
        student.train()
        meter = AverageMeter()
        for inputs, labels in loader:
            with torch.no_grad():
                teacher_logits = teacher(inputs)
            loss = criterion(student(inputs), teacher_logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            meter.update(loss.detach(), len(labels))
        print(f"student epoch {epoch + 1}/{epochs}, loss: {meter.avg:.4f}")


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    correct = total = 0
    for inputs, labels in loader:
        predicted = model(inputs).argmax(dim=1)
        correct += (predicted == labels).sum().item()
        total += labels.size(0)
    return 100 * correct / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher-epochs", type=int, default=5)
    parser.add_argument("--student-epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--temperature", type=float, default=3.0)
    parser.add_argument("--alpha", type=float, default=0.7)
    parser.add_argument("--batch-size", type=int, default=48)
    args = parser.parse_args()
    torch.manual_seed(42)

    train_loader = DataLoader(Digits(train=True, transform=to_input), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(Digits(train=False, transform=to_input), batch_size=100)

    teacher, student = Teacher(), Student()
    train_teacher(teacher, train_loader, args.teacher_epochs, args.lr)
    print(f"teacher accuracy: {accuracy(teacher, test_loader):.2f}%")

    criterion = DistillationLoss(args.temperature, args.alpha)
    train_student(teacher, student, train_loader, criterion, args.student_epochs, args.lr)
    print(f"student accuracy: {accuracy(student, test_loader):.2f}%")


if __name__ == "__main__":
    main()
