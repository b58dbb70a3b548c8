"""Knowledge distillation: a wide network of digits teaches a narrow one (Hinton et al., 2015)."""

import argparse
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class AverageMeter:
    def __init__(self, name):
        self.name, self.sum, self.count = name, 0.0, 0

    def update(self, value, n=1):
        self.sum = self.sum + value * n
        self.count += n

    @property
    def avg(self):
        return float(self.sum) / max(self.count, 1)

    def __str__(self):
        return f"{self.name} {self.avg:.4f}"


class DigitNet(nn.Module):
    """A stem that all sizes share in form, and a body as wide as one likes."""

    def __init__(self, width, n_class=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.body = nn.Sequential(
            nn.Conv2d(16, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(width * 4 * 4, n_class),
        )

    def forward(self, x):
        return self.body(self.stem(x))


def distillation_loss(student_logits, teacher_logits, labels, T, alpha):
    soft = F.kl_div(
        F.log_softmax(student_logits / T, dim=1), F.softmax(teacher_logits / T, dim=1), reduction="batchmean"
    )
    hard = F.cross_entropy(student_logits, labels)
    return alpha * T * T * soft + (1 - alpha) * hard


def train_teacher(model, loader, optimizer, device):
    model.train()
    meter = AverageMeter("loss")
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        meter.update(loss.detach(), len(images))
    return meter


def train_student(model, teacher, loader, optimizer, args, device):
    model.train()
    meter = AverageMeter("loss")
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        with torch.no_grad():
            teacher_logits = teacher(images)
        loss = distillation_loss(model(images), teacher_logits, labels, args.temperature, args.alpha)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        meter.update(loss.detach(), len(images))
    return meter


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    correct = 0
    for images, labels in loader:
        correct += (model(images.to(device)).argmax(1).cpu() == labels).sum().item()
    return correct / len(loader.dataset)


def make_loaders(batch_size):
    train_images, train_labels = draw_digits(1500, seed=0)
    valid_images, valid_labels = draw_digits(300, seed=1)
    train_images, valid_images = train_images.float() / 255, valid_images.float() / 255
    mean, std = train_images.mean(), train_images.std()
    train_set = TensorDataset((train_images - mean) / std, train_labels)
    valid_set = TensorDataset((valid_images - mean) / std, valid_labels)
    return DataLoader(train_set, batch_size, shuffle=True), DataLoader(valid_set, 150)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher-epochs", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--temperature", type=float, default=3.0)
    parser.add_argument("--alpha", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_loader, valid_loader = make_loaders(args.batch_size)

    teacher = DigitNet(width=48).to(device)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=args.lr)
    for epoch in range(1, args.teacher_epochs + 1):
        meter = train_teacher(teacher, train_loader, optimizer, device)
        print(f"teacher {epoch}  {meter}  accuracy {evaluate(teacher, valid_loader, device):.3f}")
    teacher.eval()
    teacher.requires_grad_(False)

    student = DigitNet(width=12).to(device)
    optimizer = torch.optim.Adam(student.parameters(), lr=args.lr)
    best, best_state = 0.0, None
    for epoch in range(1, args.epochs + 1):
        meter = train_student(student, teacher, train_loader, optimizer, args, device)
        accuracy = evaluate(student, valid_loader, device)
        if accuracy > best:
            best, best_state = accuracy, copy.deepcopy(student.state_dict())
        print(f"student {epoch}  {meter}  accuracy {accuracy:.3f}")
    student.load_state_dict(best_state)
    sizes = [sum(p.numel() for p in m.parameters()) for m in (teacher, student)]
    print(f"parameters {sizes[0]} -> {sizes[1]}, student accuracy {best:.3f}")


if __name__ == "__main__":
    main()
