"""Knowledge distillation on colored shapes: a wide teacher first, then a narrow student on the transfer set."""

import argparse
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes


class ConvNet(nn.Module):
    def __init__(self, widths, num_classes=6):
        super().__init__()
        layers, channels = [], 3
        for width in widths:
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * 4 * 4, num_classes)

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


def loss_fn(outputs, labels):
    return F.cross_entropy(outputs, labels)


def loss_fn_kd(outputs, labels, teacher_outputs, params):
    """Hinton et al., 2015: the soft part is multiplied by T^2, so its gradients keep their size."""
    alpha, T = params.alpha, params.temperature
    soft = F.kl_div(F.log_softmax(outputs / T, dim=1), F.softmax(teacher_outputs / T, dim=1), reduction="batchmean")
    return alpha * T * T * soft + (1.0 - alpha) * F.cross_entropy(outputs, labels)


def train_teacher(teacher, loader, params):
    optimizer = torch.optim.SGD(teacher.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for epoch in range(params.teacher_epochs):
        teacher.train()
        meter = AverageMeter()
        for images, labels in loader:
            loss = loss_fn(teacher(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            meter.update(loss.item(), len(images))
        print(f"teacher epoch {epoch + 1}: loss {meter.avg:.3f}")


def train_student(student, teacher, loader, optimizer, params):
    student.train()
    teacher.eval()
    meter = AverageMeter()
    for images, labels in loader:
        with torch.no_grad():
            teacher_outputs = teacher(images)
        outputs = student(images)
        loss = loss_fn_kd(outputs, labels, teacher_outputs, params)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        meter.update(loss.item(), len(images))
    return meter.avg


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    meter = AverageMeter()
    for images, labels in loader:
        hits = model(images).argmax(dim=1) == labels
        meter.update(hits.float().mean().item(), len(images))
    return meter.avg


def fetch_data(params):
    full, held_out = Shapes(train=True, count=1200), Shapes(train=False)
    images, labels = torch.stack(full.images), torch.tensor(full.targets)
    val_images, val_labels = torch.stack(held_out.images), torch.tensor(held_out.targets)
    images, val_images = (images - 0.5) / 0.2, (val_images - 0.5) / 0.2
    half = len(images) // 2
    labeled = TensorDataset(images[:half], labels[:half])
    transfer = TensorDataset(images[half:], labels[half:])
    make = lambda dataset, shuffle: DataLoader(dataset, batch_size=params.batch_size, shuffle=shuffle)
    return make(labeled, True), make(transfer, True), make(TensorDataset(val_images, val_labels), False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--teacher_epochs", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--alpha", type=float, default=0.7)
    parser.add_argument("--temperature", type=float, default=3.0)
    params = SimpleNamespace(**vars(parser.parse_args()))
    torch.manual_seed(230)

    labeled_loader, transfer_loader, val_loader = fetch_data(params)
    teacher, student = ConvNet((24, 48)), ConvNet((8, 12))
    train_teacher(teacher, labeled_loader, params)
    print(f"teacher: val accuracy {evaluate(teacher, val_loader):.3f}")
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)

    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    for epoch in range(params.epochs):
        loss = train_student(student, teacher, transfer_loader, optimizer, params)
        print(f"student epoch {epoch + 1}: loss {loss:.3f}, val accuracy {evaluate(student, val_loader):.3f}")


if __name__ == "__main__":
    main()
