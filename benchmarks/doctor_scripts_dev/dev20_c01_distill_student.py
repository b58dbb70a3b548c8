"""Knowledge distillation: a wide teacher is trained first, then a narrow student learns from labels and soft targets."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

TEACHER_EPOCHS = 8
STUDENT_EPOCHS = 15
BATCH_SIZE = 64
TEMPERATURE = 4.0
ALPHA = 0.7  # share of the soft targets

torch.manual_seed(42)
device = torch.device("cpu")


def get_loaders():
    train_images, train_labels = draw_digits(3000, seed=100, noise=0.2)
    test_images, test_labels = draw_digits(600, seed=101, noise=0.2)
    train_images = train_images.float() / 255
    test_images = test_images.float() / 255
    mean, std = train_images.mean(), train_images.std()
    train_set = TensorDataset((train_images - mean) / std, train_labels)
    test_set = TensorDataset((test_images - mean) / std, test_labels)
    return (
        DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True),
        DataLoader(test_set, batch_size=200, shuffle=False),
    )


class ConvNet(nn.Module):
    def __init__(self, width, num_classes=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Linear(4 * width * 4 * 4, num_classes)

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def train_teacher(model, loader, optimizer):
    model.train()
    total, seen = 0.0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * labels.size(0)
        seen += labels.size(0)
    return total / seen


def distillation_loss(student_logits, teacher_logits, labels):
    soft = F.kl_div(
        F.log_softmax(student_logits / TEMPERATURE, dim=1),
        F.softmax(teacher_logits / TEMPERATURE, dim=1),
        reduction="batchmean",
    )
    hard = F.cross_entropy(student_logits, labels)
    return ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * hard


def train_student(student, teacher, loader, optimizer):
    student.train()
    teacher.eval()
    total, seen = 0.0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        with torch.no_grad():
            teacher_logits = teacher(images)
        student_logits = student(images)
        loss = distillation_loss(student_logits, teacher_logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * labels.size(0)
        seen += labels.size(0)
    return total / seen


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct, seen = 0, 0
    for images, labels in loader:
        predictions = model(images.to(device)).argmax(dim=1)
        correct += (predictions == labels.to(device)).sum().item()
        seen += labels.size(0)
    return correct / seen


def main():
    train_loader, test_loader = get_loaders()

    teacher = ConvNet(width=32).to(device)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-3)
    for epoch in range(TEACHER_EPOCHS):
        loss = train_teacher(teacher, train_loader, optimizer)
        print(f"teacher epoch {epoch + 1}: loss {loss:.4f}, test accuracy {evaluate(teacher, test_loader):.4f}")

    for parameter in teacher.parameters():
        parameter.requires_grad_(False)

    student = ConvNet(width=8).to(device)
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.2)
    for epoch in range(STUDENT_EPOCHS):
        loss = train_student(student, teacher, train_loader, optimizer)
        scheduler.step()
        print(f"student epoch {epoch + 1}: loss {loss:.4f}, test accuracy {evaluate(student, test_loader):.4f}")

    sizes = [sum(p.numel() for p in model.parameters()) for model in (teacher, student)]
    print(f"parameters: teacher {sizes[0]}, student {sizes[1]}")


if __name__ == "__main__":
    main()
