"""A small student learns digits from its teacher's soft answers and from the labels (Hinton et al.)."""

import argparse
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits


def to_input(image):
    return (image.float() / 255 - 0.17) / 0.3


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24)
        self.conv2, self.bn2 = nn.Conv2d(24, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(32 * 16, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc(self.drop(x.flatten(1)))


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.fc = nn.Linear(16 * 16, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        return self.fc(x.flatten(1))


def accuracy(model, loader):
    was_training = model.training
    model.eval()
    right = 0
    with torch.no_grad():
        for x, y in loader:
            right += (model(x).argmax(dim=1) == y).sum().item()
    model.train(was_training)
    return right / len(loader.dataset)


def fit(model, loss_of, train_loader, val_loader, epochs, lr, name):
    """Trains, and leaves the model with the weights of its best epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=2)
    best, best_weights = -1.0, None
    for epoch in range(epochs):
        model.train()
        losses = 0.0
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_of(model, x, y)
            loss.backward()
            optimizer.step()
            losses += loss.item()
        score = accuracy(model, val_loader)
        scheduler.step(score)
        if score > best:
            best, best_weights = score, copy.deepcopy(model.state_dict())
        print(f"{name} epoch {epoch + 1:2d} loss {losses / len(train_loader):.4f} accuracy {score:.3f}")
    model.load_state_dict(best_weights)
    return best


def distillation(teacher, temperature, alpha):
    teacher.eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)

    def loss_of(student, x, y):
        with torch.no_grad():
            soft = F.softmax(teacher(x) / temperature, dim=1)
        logits = student(x)
        kd = F.kl_div(F.log_softmax(logits / temperature, dim=1), soft, reduction="batchmean") * temperature**2
        return alpha * kd + (1 - alpha) * F.cross_entropy(logits, y)

    return loss_of


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--temperature", type=float, default=3.0)
    parser.add_argument("--alpha", type=float, default=0.7)
    parser.add_argument("--teacher-epochs", type=int, default=8)
    parser.add_argument("--student-epochs", type=int, default=16)
    args = parser.parse_args()
    torch.manual_seed(0)

    train_loader = DataLoader(Digits(True, transform=to_input), batch_size=32, shuffle=True)
    val_loader = DataLoader(Digits(False, transform=to_input), batch_size=150)

    teacher = Teacher()
    best = fit(
        teacher, lambda m, x, y: F.cross_entropy(m(x), y), train_loader, val_loader, args.teacher_epochs, 2e-3, "teacher"
    )
    student = Student()
    loss_of = distillation(teacher, args.temperature, args.alpha)
    student_best = fit(student, loss_of, train_loader, val_loader, args.student_epochs, 4e-3, "student")
    print(f"teacher {best:.3f}, student {student_best:.3f}")


if __name__ == "__main__":
    main()
