"""Knowledge distillation: a convolutional teacher, then a small student, on digits."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class Teacher(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 16, num_classes),
        )

    def forward(self, x):
        return self.net(x)


class Student(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 16, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.flatten(1))


def loaders(batch_size):
    sets = []
    for count, seed in ((1200, 0), (300, 1)):
        images, labels = draw_digits(count, seed=seed)
        sets.append(TensorDataset((images.float() / 255 - 0.2) / 0.3, labels))
    return DataLoader(sets[0], batch_size=batch_size, shuffle=True), DataLoader(sets[1], batch_size=100)


def kd_loss(student_logits, teacher_logits, temperature):
    """KL divergence of the softened predictions, times T^2 (Hinton et al., 2015)."""
    return (
        F.kl_div(
            F.log_softmax(student_logits / temperature, dim=1),
            F.softmax(teacher_logits / temperature, dim=1),
            reduction="batchmean",
        )
        * temperature**2
    )


def train_teacher(model, loader, epochs, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        model.train()
        running = 0.0
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
            running += loss.item()
        print(f"teacher epoch {epoch + 1}/{epochs}, loss: {running / len(loader):.4f}")


def train_student(teacher, student, loader, val_loader, args):
    optimizer = torch.optim.Adam(student.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2 * args.lr, epochs=args.epochs, steps_per_epoch=len(loader)
    )
    teacher.eval()
    for epoch in range(args.epochs):
        student.train()
        running = 0.0
        for inputs, labels in loader:
            optimizer.zero_grad()
            with torch.no_grad():
                teacher_logits = teacher(inputs)
            student_logits = student(inputs)
            soft = kd_loss(student_logits, teacher_logits, args.temperature)
            loss = args.alpha * F.cross_entropy(student_logits, labels) + (1 - args.alpha) * soft
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item()
        accuracy = test(student, val_loader)
        print(f"student epoch {epoch + 1}/{args.epochs}, loss: {running / len(loader):.4f}, accuracy: {accuracy:.2f}%")


@torch.no_grad()
def test(model, loader):
    model.eval()
    correct = total = 0
    for inputs, labels in loader:
        predicted = model(inputs).argmax(dim=1)
        total += labels.size(0)
        correct += (predicted == labels).sum().item()
    return 100 * correct / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher-epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=40)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--alpha", type=float, default=0.3)
    args = parser.parse_args()

    torch.manual_seed(42)
    train_loader, val_loader = loaders(args.batch_size)
    teacher, student = Teacher(), Student()
    train_teacher(teacher, train_loader, args.teacher_epochs, args.lr)
    print(f"teacher accuracy: {test(teacher, val_loader):.2f}%")
    train_student(teacher, student, train_loader, val_loader, args)
    size = lambda model: sum(p.numel() for p in model.parameters())
    print(f"parameters: teacher {size(teacher)}, student {size(student)}")


if __name__ == "__main__":
    main()
