"""Knowledge distillation on digits: a small student learns from the soft targets of a larger teacher."""

import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader

from toydata import Digits


def parse_args():
    parser = argparse.ArgumentParser(description="digits KD")
    parser.add_argument("--teacher_epochs", type=int, default=5)
    parser.add_argument("--student_epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=40)
    parser.add_argument("--teacher_lr", type=float, default=2e-3)
    parser.add_argument("--student_lr", type=float, default=0.05)
    parser.add_argument("--temperature", type=float, default=3.0)
    parser.add_argument("--alpha", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def to_input(image):
    return (image.float() / 255 - 0.18) / 0.33


class Teacher(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 48, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(48)
        self.fc1 = nn.Linear(48 * 4 * 4, 96)
        self.dropout = nn.Dropout(0.3)
        self.fc2 = nn.Linear(96, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(self.dropout(x))


class Student(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16 * 4 * 4, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc(x.flatten(1))


def loss_fn_kd(outputs, labels, teacher_outputs, alpha, T):
    """Hinton's loss: soft targets at temperature T, weighted by T squared, and the labels."""
    soft_targets = F.softmax(teacher_outputs / T, dim=1)
    soft_loss = F.kl_div(F.log_softmax(outputs / T, dim=1), soft_targets, reduction="batchmean")
    return alpha * T * T * soft_loss + (1.0 - alpha) * F.cross_entropy(outputs, labels)


def train_teacher(model, loader, optimizer):
    model.train()
    running = 0.0
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item() * images.size(0)
    return running / len(loader.dataset)


def train_kd(student, teacher, loader, optimizer, scheduler, args):
    student.train()
    teacher.eval()
    running = 0.0
    for images, labels in loader:
        with torch.no_grad():
            teacher_outputs = teacher(images)
        outputs = student(images)
        loss = loss_fn_kd(outputs, labels, teacher_outputs, args.alpha, args.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item() * images.size(0)
    scheduler.step()
    return running / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = 0
    for images, labels in loader:
        correct += (model(images).argmax(dim=1) == labels).sum().item()
    return correct / len(loader.dataset)


def main():
    args = parse_args()
    set_seed(args.seed)
    train_loader = DataLoader(Digits(train=True, transform=to_input), batch_size=args.batch_size, shuffle=True)
    dev_loader = DataLoader(Digits(train=False, transform=to_input), batch_size=100, shuffle=False)

    teacher = Teacher()
    teacher_optimizer = optim.Adam(teacher.parameters(), lr=args.teacher_lr)
    for epoch in range(args.teacher_epochs):
        loss = train_teacher(teacher, train_loader, teacher_optimizer)
        print(f"teacher epoch {epoch}: loss {loss:.4f} dev accuracy {evaluate(teacher, dev_loader):.3f}")

    student = Student()
    student_optimizer = optim.SGD(student.parameters(), lr=args.student_lr, momentum=0.9, weight_decay=1e-4)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(student_optimizer, T_max=args.student_epochs)
    for epoch in range(args.student_epochs):
        loss = train_kd(student, teacher, train_loader, student_optimizer, scheduler, args)
        print(f"student epoch {epoch}: loss {loss:.4f} dev accuracy {evaluate(student, dev_loader):.3f}")

    sizes = [sum(p.numel() for p in m.parameters()) for m in (teacher, student)]
    print(f"parameters: teacher {sizes[0]}, student {sizes[1]}")


if __name__ == "__main__":
    main()
