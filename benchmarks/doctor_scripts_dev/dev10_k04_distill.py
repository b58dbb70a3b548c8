"""Knowledge distillation on digits: a wide teacher is trained first, then a narrow student learns from its soft targets."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import Digits


def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher-epochs", type=int, default=5)
    parser.add_argument("--student-epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--temperature", type=float, default=3.0)
    parser.add_argument("--alpha", type=float, default=0.7, help="share of the soft loss")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def convnet(width):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 8 * width),
        nn.ReLU(),
        nn.Linear(8 * width, 10),
    )


def as_tensors(train, count):
    digits = Digits(train=train, count=count)
    return TensorDataset((digits.data.float() / 255 - 0.25) / 0.35, digits.targets)


def accuracy(model, loader):
    model.eval()
    correct = torch.tensor(0)
    with torch.no_grad():
        for x, y in loader:
            correct += (model(x).argmax(-1) == y).sum()
    return correct.item() / len(loader.dataset)


def train_teacher(teacher, loader, val_loader, args):
    optimizer = torch.optim.Adam(teacher.parameters(), lr=args.lr)
    for epoch in range(args.teacher_epochs):
        teacher.train()
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(teacher(x), y).backward()
            optimizer.step()
        print(f"teacher epoch {epoch + 1}: accuracy {accuracy(teacher, val_loader):.4f}")


def distillation_loss(student_logits, teacher_logits, labels, temperature, alpha):
    soft = F.kl_div(
        F.log_softmax(student_logits / temperature, dim=1),
        F.log_softmax(teacher_logits / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    hard = F.cross_entropy(student_logits, labels)
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def train_student(student, teacher, loader, val_loader, args):
    teacher.eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), lr=args.lr)
    for epoch in range(args.student_epochs):
        student.train()
        total = torch.tensor(0.0)
        for x, y in loader:
            with torch.no_grad():
                teacher_logits = teacher(x)
            loss = distillation_loss(student(x), teacher_logits, y, args.temperature, args.alpha)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(x)
        print(
            f"student epoch {epoch + 1}: loss {total.item() / len(loader.dataset):.4f} "
            f"accuracy {accuracy(student, val_loader):.4f}"
        )


def main():
    args = get_args()
    torch.manual_seed(args.seed)
    loader = DataLoader(as_tensors(True, 3000), batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(as_tensors(False, 500), batch_size=250)
    teacher, student = convnet(24), convnet(10)
    train_teacher(teacher, loader, val_loader, args)
    train_student(student, teacher, loader, val_loader, args)
    print(f"teacher {accuracy(teacher, val_loader):.4f}  student {accuracy(student, val_loader):.4f}")


if __name__ == "__main__":
    main()
