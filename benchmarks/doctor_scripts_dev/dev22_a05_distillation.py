"""Knowledge distillation (Hinton et al., 2015): a small network learns from the soft answers of a larger one.

Stage 1 trains a teacher with labels and saves it, stage 2 reads it and trains a student on the soft
answers alone, as if the pictures of stage 2 had no labels.
"""
import os
import tempfile
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


@dataclass
class Config:
    classes: int = 10
    batch_size: int = 64
    noise: float = 0.2
    # teacher
    teacher_width: int = 32
    teacher_epochs: int = 10
    teacher_lr: float = 2e-3
    # student
    student_width: int = 10
    student_epochs: int = 22
    student_lr: float = 0.02
    momentum: float = 0.9
    temperature: float = 4.0
    seed: int = 0


def make_net(width, classes):
    """The same plan for teacher and student: two convolutions and a linear layer."""

    def stage(c_in, c_out):
        return nn.Sequential(
            nn.Conv2d(c_in, c_out, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )

    return nn.Sequential(
        stage(1, width),
        stage(width, 2 * width),
        nn.Flatten(),
        nn.Linear(2 * width * 4 * 4, classes),
    )


def make_loaders(cfg):
    def prepare(count, seed):
        images, labels = draw_digits(count, seed=seed, noise=cfg.noise)
        return TensorDataset((images.float() / 255 - 0.25) / 0.3, labels)

    labeled, transfer = prepare(2560, seed=20), prepare(2560, seed=21)
    validation = prepare(500, seed=22)
    return (
        DataLoader(labeled, batch_size=cfg.batch_size, shuffle=True),
        DataLoader(transfer, batch_size=cfg.batch_size, shuffle=True),
        DataLoader(validation, batch_size=250),
    )


@torch.no_grad()
def test(net, loader):
    net.eval()
    loss, right, count = 0.0, 0, 0
    for images, labels in loader:
        logits = net(images)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        right += (logits.argmax(dim=1) == labels).sum().item()
        count += labels.numel()
    return loss / count, right / count


def train_teacher(cfg, loader, val_loader, path):
    # DataParallel, as on the machine with several GPUs; without a GPU it only hands the batch on
    teacher = nn.DataParallel(make_net(cfg.teacher_width, cfg.classes))
    optimizer = torch.optim.Adam(teacher.parameters(), lr=cfg.teacher_lr, weight_decay=1e-4)
    for epoch in range(cfg.teacher_epochs):
        teacher.train()
        total = 0.0
        for images, labels in loader:
            loss = F.cross_entropy(teacher(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item()
        val_loss, val_acc = test(teacher, val_loader)
        print(f"teacher {epoch + 1:2d}: loss {total / len(loader):.4f}  val loss {val_loss:.4f}  val acc {val_acc:.4f}")
    torch.save(teacher.state_dict(), path)


def load_teacher(cfg, path):
    teacher = make_net(cfg.teacher_width, cfg.classes)
    state = torch.load(path, map_location="cpu")
    state = {name.removeprefix("module."): value for name, value in state.items()}
    teacher.load_state_dict(state)
    for param in teacher.parameters():
        param.requires_grad_(False)
    return teacher.eval()


def distillation_loss(student_logits, teacher_logits, temperature):
    """Divergence of the softened distributions, times T^2 so that gradients keep their size."""
    log_p = F.log_softmax(student_logits / temperature, dim=1)
    q = F.softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(log_p, q, reduction="batchmean") * temperature**2


def train_student(cfg, teacher, loader, val_loader):
    student = make_net(cfg.student_width, cfg.classes)
    student_opt = torch.optim.SGD(student.parameters(), lr=cfg.student_lr, momentum=cfg.momentum)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(student_opt, T_max=cfg.student_epochs)
    for epoch in range(cfg.student_epochs):
        student.train()
        total, agree, count = 0.0, 0, 0
        for images, _ in loader:  # no labels here
            student_opt.zero_grad()
            with torch.no_grad():
                teacher_logits = teacher(images)
            student_logits = student(images)
            loss = distillation_loss(student_logits, teacher_logits, cfg.temperature)
            loss.backward()
            student_opt.step()
            total += loss.item() * len(images)
            agree += (student_logits.argmax(1) == teacher_logits.argmax(1)).sum().item()
            count += len(images)
        schedule.step()
        val_loss, val_acc = test(student, val_loader)
        print(
            f"student {epoch + 1:2d}: KD loss {total / count:.4f}  agreement {agree / count:.4f}  "
            f"val loss {val_loss:.4f}  val acc {val_acc:.4f}"
        )
    return student


def main(cfg):
    torch.manual_seed(cfg.seed)
    torch.set_num_threads(1)
    labeled, transfer, validation = make_loaders(cfg)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "teacher.pt")
        train_teacher(cfg, labeled, validation, path)
        teacher = load_teacher(cfg, path)
    print("teacher as read: val acc %.4f" % test(teacher, validation)[1])
    student = train_student(cfg, teacher, transfer, validation)
    size = [sum(p.numel() for p in net.parameters()) for net in (teacher, student)]
    print(f"parameters: teacher {size[0]}, student {size[1]}; student val acc {test(student, validation)[1]:.4f}")


if __name__ == "__main__":
    main(Config())
