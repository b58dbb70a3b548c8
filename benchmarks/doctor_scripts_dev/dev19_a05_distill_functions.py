# Knowledge distillation (Hinton et al. 2015): a small student learns from a larger teacher.
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

BATCH_SIZE = 50
TEACHER_EPOCHS = 5
STUDENT_EPOCHS = 10
TEMPERATURE = 4.0
ALPHA = 0.8
DEVICE = torch.device("cpu")


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(48 * 16, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10),
        )

    def forward(self, x):
        return self.net(x)


class Student(nn.Module):
    def __init__(self, channels=(1, 6, 12, 16)):
        super().__init__()
        self.convs = nn.ModuleList()
        for c_in, c_out in zip(channels[:-1], channels[1:]):
            self.convs.append(nn.Conv2d(c_in, c_out, 3, stride=2, padding=1))
        self.fc = nn.Linear(channels[-1] * 4, 10)

    def forward(self, x):
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.fc(torch.flatten(x, 1))


def get_loaders():
    x_train, y_train = draw_digits(2000, seed=0, noise=0.2)
    x_test, y_test = draw_digits(500, seed=1, noise=0.2)
    x_train, x_test = x_train.float() / 255, x_test.float() / 255
    mean, std = x_train.mean(), x_train.std()
    train_set = TensorDataset((x_train - mean) / std, y_train)
    test_set = TensorDataset((x_test - mean) / std, y_test)
    return DataLoader(train_set, BATCH_SIZE, shuffle=True), DataLoader(test_set, 250)


def distillation_loss(student_logits, teacher_logits, labels):
    log_p = F.log_softmax(student_logits / TEMPERATURE, dim=1)
    q = F.softmax(teacher_logits / TEMPERATURE, dim=1)
    soft = F.kl_div(log_p, q, reduction="batchmean") * TEMPERATURE ** 2
    hard = F.cross_entropy(student_logits, labels)
    return ALPHA * soft + (1 - ALPHA) * hard


def train_teacher(model, loader, optimizer):
    model.train()
    total_loss = 0
    for images, labels in loader:
        images, labels = images.to(DEVICE), labels.to(DEVICE)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
    return total_loss / len(loader)


def train_student(student, teacher, loader, optimizer):
    student.train()
    teacher.eval()
    total_loss = 0
    for images, labels in loader:
        images, labels = images.to(DEVICE), labels.to(DEVICE)
        with torch.no_grad():
            teacher_logits = teacher(images)
        student_logits = student(images)
        loss = distillation_loss(student_logits, teacher_logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
    return total_loss / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = 0
    for images, labels in loader:
        predictions = model(images.to(DEVICE)).argmax(dim=1).cpu()
        correct += (predictions == labels).sum().item()
    return correct / len(loader.dataset)


def main():
    torch.manual_seed(11)
    train_loader, test_loader = get_loaders()
    checkpoint = os.path.join(tempfile.mkdtemp(), "teacher.pt")

    teacher = Teacher().to(DEVICE)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-3)
    for epoch in range(TEACHER_EPOCHS):
        loss = train_teacher(teacher, train_loader, optimizer)
        print(f"teacher epoch {epoch + 1}: loss {loss:.3f}, test accuracy {evaluate(teacher, test_loader):.3f}")
    torch.save(teacher.state_dict(), checkpoint)

    teacher = Teacher().to(DEVICE)
    teacher.load_state_dict(torch.load(checkpoint, map_location=DEVICE))
    teacher.requires_grad_(False)
    student = Student().to(DEVICE)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    for epoch in range(STUDENT_EPOCHS):
        loss = train_student(student, teacher, train_loader, optimizer)
        print(f"student epoch {epoch + 1}: loss {loss:.3f}, test accuracy {evaluate(student, test_loader):.3f}")

    sizes = [sum(p.numel() for p in m.parameters()) for m in (teacher, student)]
    print(f"teacher {sizes[0]} parameters, student {sizes[1]}")


if __name__ == "__main__":
    main()
