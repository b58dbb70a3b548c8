"""Knowledge distillation of a digit classifier, in the style of RepDistiller, with bf16 autocast."""

import argparse
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits


class AverageMeter:
    """Computes and stores the average and current value"""

    def __init__(self):
        self.reset()

    def reset(self):
        self.val = self.avg = self.sum = 0.0
        self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def make_net(width, hidden):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * 16, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, 10),
    )


MODELS = {"teacher": lambda: make_net(24, 96), "student": lambda: make_net(8, 32)}


class DistillKL(nn.Module):
    """Distilling the Knowledge in a Neural Network"""

    def __init__(self, T):
        super().__init__()
        self.T = T

    def forward(self, y_s, y_t):
        log_p_s = F.log_softmax(y_s.float() / self.T, dim=1)
        log_p_t = F.log_softmax(y_t.float() / self.T, dim=1)
        loss = F.kl_div(log_p_s, log_p_t, reduction="batchmean", log_target=True)
        return loss * self.T**2


def train_vanilla(model, loader, optimizer):
    model.train()
    losses = AverageMeter()
    for images, target in loader:
        loss = F.cross_entropy(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), len(target))
    return losses.avg


def train_distill(student, teacher, loader, criterion_kd, optimizer, opt):
    student.train()
    teacher.eval()
    losses = AverageMeter()
    for images, target in loader:
        with torch.autocast(opt.device_type, dtype=torch.bfloat16):
            logit_s = student(images)
            with torch.no_grad():
                logit_t = teacher(images)
        loss_cls = F.cross_entropy(logit_s.float(), target)
        loss_kd = criterion_kd(logit_s, logit_t)
        loss = opt.gamma * loss_cls + opt.alpha * loss_kd
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), len(target))
    return losses.avg


@torch.no_grad()
def validate(model, loader):
    model.eval()
    top1 = AverageMeter()
    for images, target in loader:
        prediction = model(images).argmax(dim=1)
        top1.update((prediction == target).float().mean().item() * 100, len(target))
    return top1.avg


def parse_option():
    parser = argparse.ArgumentParser("argument for training")
    parser.add_argument("--batch_size", type=int, default=40)
    parser.add_argument("--teacher_epochs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning_rate", type=float, default=0.05)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight_decay", type=float, default=5e-4)
    parser.add_argument("--kd_T", type=float, default=2.0)
    parser.add_argument("-r", "--gamma", type=float, default=0.5, help="weight for classification")
    parser.add_argument("-a", "--alpha", type=float, default=0.5, help="weight for KD")
    opt = parser.parse_args()
    opt.device_type = "cpu"
    return opt


def main():
    opt = parse_option()
    torch.manual_seed(7)
    transform = lambda image: (image.float() / 255 - 0.17) / 0.3  # noqa: E731
    train_loader = DataLoader(Digits(train=True, transform=transform), batch_size=opt.batch_size, shuffle=True)
    val_loader = DataLoader(Digits(train=False, transform=transform), batch_size=100)

    teacher = MODELS["teacher"]()
    optimizer = torch.optim.Adam(teacher.parameters(), lr=2e-3)
    for epoch in range(1, opt.teacher_epochs + 1):
        loss = train_vanilla(teacher, train_loader, optimizer)
        print(f"teacher epoch {epoch}: loss {loss:.3f}, acc {validate(teacher, val_loader):.2f}")
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)

    student = MODELS["student"]()
    optimizer = torch.optim.SGD(
        student.parameters(), lr=opt.learning_rate, momentum=opt.momentum, weight_decay=opt.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[6, 8], gamma=0.3)
    criterion_kd = DistillKL(opt.kd_T)
    for epoch in range(1, opt.epochs + 1):
        start = time.time()
        loss = train_distill(student, teacher, train_loader, criterion_kd, optimizer, opt)
        scheduler.step()
        acc = validate(student, val_loader)
        print(f"student epoch {epoch}: loss {loss:.3f}, acc {acc:.2f}, {time.time() - start:.2f}s")


if __name__ == "__main__":
    main()
