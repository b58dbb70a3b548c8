"""A teacher is trained, a student learns from its soft outputs, and then loses four fifths of its weights step by step."""
import argparse
import copy
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils import prune
from torch.utils.data import DataLoader

from toydata import Digits


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 16, 10))

    def forward(self, x):
        return self.classifier(self.features(x))


class Student(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 5, padding=2)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.fc1 = nn.Linear(2 * width * 16, 48)
        self.fc2 = nn.Linear(48, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def kd_loss(student, teacher, labels, T, alpha):
    soft = F.kl_div(F.log_softmax(student / T, 1), F.softmax(teacher / T, 1), reduction="batchmean") * T * T
    return alpha * soft + (1 - alpha) * F.cross_entropy(student, labels)


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    hits = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return hits / len(loader.dataset)


def train_teacher(loader, valid, epochs):
    teacher = Teacher()
    optimizer = torch.optim.SGD(teacher.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        teacher.train()
        for x, y in loader:
            loss = F.cross_entropy(teacher(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        print(f"teacher epoch {epoch} loss {loss.item():.4f} valid {accuracy(teacher, valid):.4f}")
    return teacher


def distill(student, teacher, loader, valid, epochs, lr, T, alpha, name="student"):
    teacher.eval()
    for p in teacher.parameters():
        p.requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), lr=lr)
    for epoch in range(epochs):
        student.train()
        total = 0.0
        for x, y in loader:
            with torch.no_grad():
                target = teacher(x)
            loss = kd_loss(student(x), target, y, T, alpha)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() / len(loader)
        print(f"{name} epoch {epoch} loss {total:.4f} valid {accuracy(student, valid):.4f}")


def sparsity(model):
    weights = [m.weight for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    return sum((w == 0).sum().item() for w in weights) / sum(w.numel() for w in weights)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher-epochs", type=int, default=5)
    parser.add_argument("--student-epochs", type=int, default=7)
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--alpha", type=float, default=0.7)
    parser.add_argument("--prune-steps", type=int, default=3)
    parser.add_argument("--prune-amount", type=float, default=0.42, help="share of what is left, at each step")
    args = parser.parse_args()
    torch.manual_seed(0)
    scale = lambda image: (image.float() / 255 - 0.19) / 0.33
    loader = DataLoader(Digits(True, count=1500, transform=scale), batch_size=40, shuffle=True)
    valid = DataLoader(Digits(False, count=400, transform=scale), batch_size=100)

    teacher = train_teacher(loader, valid, args.teacher_epochs)
    student = Student()
    distill(student, teacher, loader, valid, args.student_epochs, 3e-3, args.temperature, args.alpha)
    dense = accuracy(student, valid)

    layers = [(student.conv2, "weight"), (student.fc1, "weight"), (student.fc2, "weight")]
    for step in range(args.prune_steps):
        prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=args.prune_amount)
        print(f"pruned to {sparsity(student):.2f} zeros: valid {accuracy(student, valid):.4f}")
        distill(student, teacher, loader, valid, 2, 1e-3, args.temperature, args.alpha, name=f"pruned {step + 1}")
    for module, name in layers:
        prune.remove(module, name)
    final = copy.deepcopy(student)
    torch.save(final.state_dict(), tempfile.mkdtemp() + "/student.pt")
    count = lambda m: sum(p.numel() for p in m.parameters())
    print(
        f"teacher {count(teacher)} weights, {accuracy(teacher, valid):.4f}; student {count(final)} weights, {dense:.4f}; "
        f"pruned to {sparsity(final):.2f} zeros, {accuracy(final, valid):.4f}"
    )


if __name__ == "__main__":
    main()
