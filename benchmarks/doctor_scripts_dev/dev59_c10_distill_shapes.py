"""Knowledge distillation on colored shapes: a wide teacher, then a thin student."""

import argparse
import time

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes


def conv_bn(c_in, c_out, stride=1):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


def build_model(name, num_classes):
    width = {"teacher": 32, "student": 12}[name]
    return nn.Sequential(
        conv_bn(3, width),
        conv_bn(width, width, stride=2),
        conv_bn(width, 2 * width),
        conv_bn(2 * width, 2 * width, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, num_classes),
    )


class AverageMeter:
    def __init__(self):
        self.sum = self.count = 0.0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


def preprocess(image):
    return (image - 0.5) / 0.2


def augment(images):
    """Flip each image of the batch on its own."""
    flip = torch.rand(len(images), 1, 1, 1) < 0.5
    return torch.where(flip, images.flip(-1), images)


class CrossEntropyTask:
    def __call__(self, net, images, labels):
        return F.cross_entropy(net(images), labels)


class DistillKL:
    """Distilling the Knowledge in a Neural Network (Hinton et al., 2015)."""

    def __init__(self, teacher, temperature, alpha):
        self.teacher = teacher.eval()
        for p in self.teacher.parameters():
            p.requires_grad_(False)
        self.T, self.alpha = temperature, alpha

    def __call__(self, net, images, labels):
        with torch.no_grad():
            teacher_logits = self.teacher(images)
        student_logits = net(images)
        log_p_s = F.log_softmax(student_logits / self.T, dim=1)
        p_t = F.softmax(teacher_logits / self.T, dim=1)
        kd = F.kl_div(log_p_s, p_t, reduction="batchmean") * self.T**2
        return self.alpha * kd + (1 - self.alpha) * F.cross_entropy(student_logits, labels)


@torch.no_grad()
def validate(net, loader):
    net.eval()
    top1 = AverageMeter()
    for images, labels in loader:
        hits = net(images).argmax(dim=1).eq(labels)
        top1.update(hits.float().mean().item(), len(labels))
    return top1.avg


def fit(tag, net, task, train_loader, val_loader, epochs, lr):
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    steps = epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=steps)
    for epoch in range(epochs):
        start, losses = time.time(), AverageMeter()
        net.train()
        for images, labels in train_loader:
            loss = task(net, augment(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.update(loss.item(), len(labels))
        top1 = validate(net, val_loader)
        print(f"{tag} epoch {epoch}: loss {losses.avg:.3f} top1 {top1:.3f} ({time.time() - start:.1f}s)")
    return net


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher-epochs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--temperature", type=float, default=3.0)
    parser.add_argument("--alpha", type=float, default=0.8)
    opt = parser.parse_args()

    torch.manual_seed(11)
    train_loader = DataLoader(
        Shapes(train=True, transform=preprocess), batch_size=opt.batch_size, shuffle=True, drop_last=True
    )
    val_loader = DataLoader(Shapes(train=False, transform=preprocess), batch_size=80)

    teacher = build_model("teacher", len(NAMES))
    fit("teacher", teacher, CrossEntropyTask(), train_loader, val_loader, opt.teacher_epochs, opt.lr)

    student = build_model("student", len(NAMES))
    distill = DistillKL(teacher, opt.temperature, opt.alpha)
    fit("student", student, distill, train_loader, val_loader, opt.epochs, opt.lr)
    print(f"teacher {validate(teacher, val_loader):.3f} student {validate(student, val_loader):.3f}")


if __name__ == "__main__":
    main()
