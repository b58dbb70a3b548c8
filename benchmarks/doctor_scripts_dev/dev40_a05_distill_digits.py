"""Knowledge distillation on digits: a wide teacher, a narrow student, mixup, an average of the weights."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, random_split

from toydata import Digits


@dataclass
class DistillConfig:
    teacher_epochs: int = 6
    student_epochs: int = 10
    teacher_width: int = 24
    student_width: int = 8
    batch_size: int = 40
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_steps: int = 25
    max_norm: float = 2.0
    temperature: float = 3.0
    alpha: float = 0.6
    mixup_alpha: float = 0.3
    ema_decay: float = 0.95
    seed: int = 11


def build(width, depth, num_classes):
    layers, channels = [], 1
    for stage in range(2):
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, width << stage, 3, padding=1, bias=False))
            layers.extend([nn.BatchNorm2d(width << stage), nn.ReLU()])
            channels = width << stage
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 16, num_classes))


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.module.requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for kept, new in zip(self.module.state_dict().values(), model.state_dict().values()):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, 1.0 - self.decay)
            else:
                kept.copy_(new)


def mixup_data(x, y, alpha):
    lam = float(np.random.beta(alpha, alpha))
    index = torch.randperm(x.size(0), device=x.device)
    mixed = lam * x + (1.0 - lam) * x[index]
    return mixed, y, y[index], lam


def mixup_loss(logits, y_a, y_b, lam):
    return lam * F.cross_entropy(logits, y_a) + (1.0 - lam) * F.cross_entropy(logits, y_b)


def soft_loss(logits, guide, temperature):
    soft = F.softmax(guide / temperature, dim=1)
    log_p = F.log_softmax(logits / temperature, dim=1)
    return -(soft * log_p).sum(dim=1).mean() * temperature**2


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    hits = seen = 0
    for x, y in loader:
        prediction = model(x.to(device)).argmax(dim=1).cpu()
        hits += int((prediction == y).sum())
        seen += len(y)
    return hits / seen


def fit(model, loaders, cfg, epochs, device, teacher=None):
    train_loader, val_loader = loaders
    optimizer = torch.optim.SGD(
        model.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay, nesterov=True
    )
    total_steps = epochs * len(train_loader)

    def factor(step):
        if step < cfg.warmup_steps:
            return (step + 1) / cfg.warmup_steps
        progress = (step - cfg.warmup_steps) / max(1, total_steps - cfg.warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    scaler = torch.amp.GradScaler(device.type)
    amp = torch.autocast(device.type, dtype=torch.float16 if device.type == "cuda" else torch.bfloat16, enabled=device.type == "cuda")
    ema = ModelEma(model, cfg.ema_decay)
    best_acc, best_state = -1.0, None
    for epoch in range(epochs):
        model.train()
        running = 0.0
        for x, y in train_loader:
            x, y_a, y_b, lam = mixup_data(x.to(device), y.to(device), cfg.mixup_alpha)
            with amp:
                logits = model(x)
                loss = mixup_loss(logits, y_a, y_b, lam)
                if teacher is not None:
                    with torch.no_grad():
                        guide = teacher(x)
                    loss = (1.0 - cfg.alpha) * loss + cfg.alpha * soft_loss(logits, guide, cfg.temperature)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), cfg.max_norm)
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            ema.update(model)
            running += loss.item()
        acc = evaluate(ema.module, val_loader, device)
        print(f"  epoch {epoch + 1} train loss {running / len(train_loader):.4f} val acc {acc:.4f}")
        if acc > best_acc:
            best_acc, best_state = acc, copy.deepcopy(ema.module.state_dict())
    ema.module.load_state_dict(best_state)
    return ema.module


def to_input(image):
    return (image.float() / 255.0 - 0.2) / 0.3


def main(cfg):
    torch.manual_seed(cfg.seed)
    np.random.seed(cfg.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    full = Digits(train=True, count=1200, transform=to_input)
    train_set, val_set = random_split(full, [1000, 200], generator=torch.Generator().manual_seed(cfg.seed))
    test_loader = DataLoader(Digits(train=False, count=300, transform=to_input), batch_size=100)
    loaders = DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True), DataLoader(val_set, batch_size=100)

    print("teacher")
    teacher = fit(build(cfg.teacher_width, 2, 10).to(device), loaders, cfg, cfg.teacher_epochs, device)
    print("student")
    student = build(cfg.student_width, 1, 10).to(device)
    student = fit(student, loaders, cfg, cfg.student_epochs, device, teacher=teacher)
    for name, net in (("teacher", teacher), ("student", student)):
        size = sum(p.numel() for p in net.parameters())
        print(f"{name}: {size} parameters, test accuracy {evaluate(net, test_loader, device):.4f}")


if __name__ == "__main__":
    main(DistillConfig())
