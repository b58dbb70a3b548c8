"""
CS 7643 - Assignment 4, part 2: knowledge transfer.

A large network learns from labeled digits. A small one never sees a label: it imitates the large one on
other digits, and is then compared with it on the test set.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(7643)

TEMPERATURE = 3.0


def count_parameters(net):
    return sum(p.numel() for p in net.parameters())


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(48 * 16, 10))

    def forward(self, x):
        return self.classifier(self.features(x))


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 16, 32), nn.ReLU(), nn.Linear(32, 10),
        )

    def forward(self, x):
        return self.net(x)


# ---------------------------------------------------------------- data
def prepare(seed, count, stats=None):
    images, labels = draw_digits(count, seed=seed)
    images = images.float() / 255
    if stats is None:
        stats = images.mean().item(), images.std().item()
    return (images - stats[0]) / stats[1], labels, stats


x_train, y_train, stats = prepare(seed=0, count=1200)
x_transfer, _, _ = prepare(seed=5, count=1800, stats=stats)  # the labels stay in the drawer
x_test, y_test, _ = prepare(seed=1, count=400, stats=stats)

labeled = DataLoader(TensorDataset(x_train, y_train), batch_size=60, shuffle=True)
unlabeled = DataLoader(TensorDataset(x_transfer), batch_size=60, shuffle=True)


def accuracy(net):
    was_training = net.training
    net.eval()
    with torch.no_grad():
        right = (net(x_test).argmax(dim=1) == y_test).sum().item()
    net.train(was_training)
    return right / len(y_test)


# ---------------------------------------------------------------- 2.1 the teacher
def train_teacher(epochs=5):
    net = Teacher()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for epoch in range(epochs):
        net.train()
        total = 0.0
        for x, y in labeled:
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        print(f"[teacher] epoch {epoch + 1}: loss {total / len(x_train):.4f}, test accuracy {accuracy(net):.3f}")
    for p in net.parameters():
        p.requires_grad = False
    return net.eval()


# ---------------------------------------------------------------- 2.2 the student
def imitation_loss(student_logits, teacher_logits):
    soft = F.softmax(teacher_logits / TEMPERATURE, dim=1)
    log_student = F.log_softmax(student_logits / TEMPERATURE, dim=1)
    return F.kl_div(log_student, soft, reduction="batchmean") * TEMPERATURE ** 2


def train_student(teacher, epochs=14):
    net = Student()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    halve = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.4)
    for epoch in range(epochs):
        total = 0.0
        for (x,) in unlabeled:
            with torch.no_grad():
                target = teacher(x)
            loss = imitation_loss(net(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        halve.step()
        print(f"[student] epoch {epoch + 1}: loss {total / len(x_transfer):.4f}, test accuracy {accuracy(net):.3f}")
    return net


if __name__ == "__main__":
    teacher = train_teacher()
    student = train_student(teacher)
    agree = (teacher(x_test).argmax(1) == student(x_test).argmax(1)).float().mean().item()
    print(f"teacher: {count_parameters(teacher)} parameters, {accuracy(teacher):.3f}")
    print(f"student: {count_parameters(student)} parameters, {accuracy(student):.3f}, agreement {agree:.3f}")
