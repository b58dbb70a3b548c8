"""Knowledge distillation (Hinton et al.): a teacher is trained first, a smaller student learns from its soft labels."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


def make_stem(channels=16):
    return nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.GroupNorm(4, channels), nn.ReLU(), nn.MaxPool2d(2))


class Teacher(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = make_stem()
        self.body = nn.Sequential(
            nn.Conv2d(16, 48, 3, padding=1), nn.GroupNorm(4, 48), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Linear(48 * 16, 128), nn.ReLU(), nn.Linear(128, num_classes))

    def forward(self, x):
        return self.head(self.body(self.stem(x)))


class Student(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = make_stem()
        self.reduce = nn.Sequential(nn.Conv2d(16, 12, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten())
        self.classifier = nn.Linear(12 * 16, num_classes)

    def forward(self, x):
        return self.classifier(self.reduce(self.stem(x)))


class DistillationLoss(nn.Module):
    """alpha of the soft labels at temperature T, the rest of the true ones."""

    def __init__(self, temperature, alpha):
        super().__init__()
        self.T, self.alpha = temperature, alpha

    def forward(self, student_logits, teacher_logits, labels):
        soft = F.kl_div(
            F.log_softmax(student_logits / self.T, dim=1),
            F.softmax(teacher_logits / self.T, dim=1),
            reduction="batchmean",
        )
        hard = F.cross_entropy(student_logits, labels)
        return self.alpha * self.T**2 * soft + (1 - self.alpha) * hard


def get_loaders(batch_size):
    def dataset(count, seed):
        images, labels = draw_digits(count, seed=seed)
        return TensorDataset((images.float() / 255 - 0.2) / 0.3, labels)

    train = DataLoader(dataset(1500, 0), batch_size=batch_size, shuffle=True)
    test = DataLoader(dataset(400, 1), batch_size=200)
    return train, test


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    correct = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return 100.0 * correct / len(loader.dataset)


def train_teacher(teacher, train_loader, test_loader, epochs, lr):
    optimizer = torch.optim.Adam(teacher.parameters(), lr=lr)
    for epoch in range(epochs):
        teacher.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(teacher(x), y)
            loss.backward()
            optimizer.step()
        print(f"teacher epoch {epoch + 1}: test {accuracy(teacher, test_loader):.1f}%")


def train_student(student, teacher, train_loader, test_loader, args):
    criterion = DistillationLoss(args.temperature, args.alpha)
    trainable = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=args.student_lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.student_epochs)
    teacher.eval()
    for epoch in range(args.student_epochs):
        student.train()
        running = 0.0
        for x, y in train_loader:
            with torch.no_grad():
                teacher_logits = teacher(x)
            loss = criterion(student(x), teacher_logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running += loss.item() * x.size(0)
        scheduler.step()
        print(
            f"student epoch {epoch + 1}: loss {running / len(train_loader.dataset):.4f}"
            f" test {accuracy(student, test_loader):.1f}%"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--teacher-epochs", type=int, default=4)
    parser.add_argument("--student-epochs", type=int, default=6)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--student-lr", type=float, default=0.02)
    parser.add_argument("--temperature", type=float, default=3.0)
    parser.add_argument("--alpha", type=float, default=0.7)
    args = parser.parse_args()
    torch.manual_seed(7)

    train_loader, test_loader = get_loaders(args.batch_size)
    teacher = Teacher()
    train_teacher(teacher, train_loader, test_loader, args.teacher_epochs, args.lr)
    student = Student()
    train_student(student, teacher, train_loader, test_loader, args)
    sizes = [sum(p.numel() for p in m.parameters()) for m in (teacher, student)]
    print(f"teacher {accuracy(teacher, test_loader):.1f}% ({sizes[0]}), student {accuracy(student, test_loader):.1f}% ({sizes[1]})")


if __name__ == "__main__":
    main()
