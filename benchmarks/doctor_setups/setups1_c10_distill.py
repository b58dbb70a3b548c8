"""Knowledge distillation (Hinton et al.): a small student learns from a trained teacher."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits

opts = dict(temperature=3.0, alpha=0.8, lr=2e-3, batch_size=48, teacher_steps=160, teacher_lr=2e-3)


def transform(image):
    return (image.float() / 255.0 - 0.15) / 0.3


def conv_net(widths, num_classes=10):
    layers, cin = [], 1
    for width in widths:
        layers += [nn.Conv2d(cin, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        cin = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(cin * 16, num_classes))  # 16 x 16 -> 4 x 4


def train_teacher(loader):
    teacher = conv_net([32, 64])
    optimizer = torch.optim.Adam(teacher.parameters(), lr=opts["teacher_lr"])
    done = 0
    while done < opts["teacher_steps"]:
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(teacher(x), y).backward()
            optimizer.step()
            done += 1
    return teacher.eval().requires_grad_(False)


class DistillationStep:
    def __init__(self, teacher, temperature, alpha):
        self.teacher, self.temperature, self.alpha = teacher, temperature, alpha

    def soft_loss(self, student_logits, teacher_logits):
        t = self.temperature
        log_p = F.log_softmax(student_logits / t, dim=1)
        q = F.softmax(teacher_logits / t, dim=1)
        return F.kl_div(log_p, q, reduction="batchmean") * t * t

    def __call__(self, model, batch, optimizer, loss):
        x, y = batch
        with torch.no_grad():
            teacher_logits = self.teacher(x)
        logits = model(x)
        value = self.alpha * self.soft_loss(logits, teacher_logits) + (1 - self.alpha) * loss(logits, y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()


def setup():
    torch.manual_seed(9)
    train = DataLoader(Digits(train=True, transform=transform), batch_size=opts["batch_size"], shuffle=True)
    val = DataLoader(Digits(train=False, transform=transform), batch_size=100)
    teacher = train_teacher(train)
    return {
        "model": conv_net([8, 16]),
        "train": train,
        "val": val,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": lambda params: torch.optim.Adam(params, lr=opts["lr"]),
        "step": DistillationStep(teacher, opts["temperature"], opts["alpha"]),
        "task": "classify",
    }
