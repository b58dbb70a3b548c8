"""Knowledge distillation: a wide teacher is trained on shapes, then a slim student learns from it."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes


def normalize(image):
    return (image - 0.5) / 0.2


def conv_net(widths, num_classes):
    layers, channels = [], 3
    for width in widths:
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 4 * 4, num_classes))


def fetch_dataloaders(batch_size):
    train = Shapes(train=True, transform=normalize)
    dev = Shapes(train=False, transform=normalize)
    return {
        "train": DataLoader(train, batch_size=batch_size, shuffle=True, drop_last=True),
        "dev": DataLoader(dev, batch_size=120),
    }


def loss_fn(outputs, labels):
    return F.cross_entropy(outputs, labels)


def loss_fn_kd(outputs, labels, teacher_outputs, params):
    """The hard loss and the soft loss; the square of T makes up for the smaller gradients of softened outputs."""
    T, alpha = params.temperature, params.alpha
    soft = F.kl_div(
        F.log_softmax(outputs / T, dim=1), F.softmax(teacher_outputs / T, dim=1), reduction="batchmean"
    )
    return alpha * T * T * soft + (1 - alpha) * F.cross_entropy(outputs, labels)


def train_teacher(model, dataloader, params):
    optimizer = torch.optim.Adam(model.parameters(), lr=params.lr)
    for epoch in range(params.teacher_epochs):
        model.train()
        total = 0.0
        for images, labels in dataloader["train"]:
            loss = loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        accuracy = evaluate(model, dataloader["dev"])
        print(f"teacher {epoch + 1}: loss {total / len(dataloader['train']):.4f}  dev accuracy {accuracy:.3f}")


def train_student(student, teacher, dataloader, params):
    optimizer = torch.optim.SGD(student.parameters(), lr=params.student_lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=params.student_epochs)
    teacher.eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    best = 0.0
    for epoch in range(params.student_epochs):
        student.train()
        total = 0.0
        for images, labels in dataloader["train"]:
            with torch.no_grad():
                teacher_outputs = teacher(images)
            loss = loss_fn_kd(student(images), labels, teacher_outputs, params)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        accuracy = evaluate(student, dataloader["dev"])
        best = max(best, accuracy)
        print(f"student {epoch + 1}: loss {total / len(dataloader['train']):.4f}  dev accuracy {accuracy:.3f}")
    return best


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = count = 0
    for images, labels in loader:
        correct += (model(images).argmax(dim=1) == labels).sum().item()
        count += len(labels)
    return correct / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher-epochs", type=int, default=4)
    parser.add_argument("--student-epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--student-lr", type=float, default=0.02)
    parser.add_argument("--temperature", type=float, default=3.0)
    parser.add_argument("--alpha", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=230)
    params = parser.parse_args()
    torch.manual_seed(params.seed)

    dataloader = fetch_dataloaders(params.batch_size)
    teacher = conv_net([24, 48], len(NAMES))
    student = conv_net([8, 12], len(NAMES))
    train_teacher(teacher, dataloader, params)
    best = train_student(student, teacher, dataloader, params)
    print(f"teacher {evaluate(teacher, dataloader['dev']):.3f}, best student {best:.3f}")


if __name__ == "__main__":
    main()
