# Mean teacher on the scikit-learn digits with a handful of labels per class.
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

config = {
    "seed": 7,
    "labels_per_class": 4,
    "batch_labeled": 32,
    "batch_unlabeled": 96,
    "steps": 400,
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "ema_decay": 0.98,
    "consistency": 8.0,
    "rampup_steps": 150,
    "noise": 0.1,
}


def conv_bn(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.LeakyReLU(0.1))


def build_net():
    return nn.Sequential(
        conv_bn(1, 16), conv_bn(16, 32), nn.MaxPool2d(2),
        conv_bn(32, 48), nn.Flatten(), nn.Dropout(0.3), nn.Linear(48 * 16, 10),
    )


def augment(x, noise):
    n = x.size(0)
    padded = F.pad(x, (1, 1, 1, 1), value=float(x.min()))
    shifts = torch.stack([padded[:, :, i:i + 8, j:j + 8] for i in range(3) for j in range(3)], dim=1)
    x = shifts[torch.arange(n), torch.randint(9, (n,))]
    return x + noise * torch.randn_like(x)


def sigmoid_rampup(step, length):
    if step >= length:
        return 1.0
    phase = 1.0 - step / length
    return math.exp(-5.0 * phase * phase)


@torch.no_grad()
def update_teacher(teacher, student, step, decay):
    decay = min(1.0 - 1.0 / (step + 1), decay)
    for pt, ps in zip(teacher.parameters(), student.parameters()):
        pt.mul_(decay).add_(ps, alpha=1.0 - decay)
    for bt, bs in zip(teacher.buffers(), student.buffers()):
        bt.copy_(bs)


def infinite_batches(n, batch_size, generator):
    while True:
        perm = torch.randperm(n, generator=generator)
        for i in range(0, n - batch_size + 1, batch_size):
            yield perm[i:i + batch_size]


@torch.no_grad()
def accuracy(net, x, y):
    was_training = net.training
    net.eval()
    correct = (net(x).argmax(dim=1) == y).sum().item()
    net.train(was_training)
    return 100.0 * correct / len(y)


def load_data(cfg):
    digits = load_digits()
    images = digits.images[:, None].astype("float32")
    x_rest, x_test, y_rest, y_test = train_test_split(
        images, digits.target, test_size=450, stratify=digits.target, random_state=cfg["seed"])
    x_train, x_val, y_train, y_val = train_test_split(
        x_rest, y_rest, test_size=150, stratify=y_rest, random_state=cfg["seed"])
    mean, std = x_train.mean(), x_train.std()
    x_train, x_val, x_test = [torch.from_numpy((a - mean) / std) for a in (x_train, x_val, x_test)]
    y_train, y_val, y_test = [torch.from_numpy(a) for a in (y_train, y_val, y_test)]
    rng = np.random.default_rng(cfg["seed"])
    lab_idx = np.concatenate([
        rng.choice(np.flatnonzero(y_train.numpy() == c), cfg["labels_per_class"], replace=False) for c in range(10)])
    x_lab, y_lab = x_train[lab_idx], y_train[lab_idx]
    return x_lab, y_lab, x_train, x_val, y_val, x_test, y_test


def main(cfg):
    torch.manual_seed(cfg["seed"])
    x_lab, y_lab, x_unl, x_val, y_val, x_test, y_test = load_data(cfg)
    print(f"{len(y_lab)} labeled, {len(x_unl)} unlabeled, {len(y_test)} test images")

    student = build_net()
    teacher = copy.deepcopy(student)
    for p in teacher.parameters():
        p.requires_grad_(False)
    teacher.eval()
    student.train()

    opt = torch.optim.SGD(student.parameters(), lr=cfg["lr"], momentum=cfg["momentum"],
                          weight_decay=cfg["weight_decay"], nesterov=True)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=cfg["steps"])
    gen = torch.Generator().manual_seed(cfg["seed"])
    unlabeled = infinite_batches(len(x_unl), cfg["batch_unlabeled"], gen)
    labeled = infinite_batches(len(x_lab), cfg["batch_labeled"], gen)

    for step in range(cfg["steps"]):
        li, ui = next(labeled), next(unlabeled)
        xl, xu = augment(x_lab[li], cfg["noise"]), x_unl[ui]
        logits = student(torch.cat([xl, augment(xu, cfg["noise"])]))
        s_lab, s_unl = logits[:len(li)], logits[len(li):]
        with torch.no_grad():
            t_unl = teacher(augment(xu, cfg["noise"]))

        class_loss = F.cross_entropy(s_lab, y_lab[li])
        cons_loss = F.mse_loss(s_unl.softmax(dim=1), t_unl.softmax(dim=1))
        weight = cfg["consistency"] * sigmoid_rampup(step, cfg["rampup_steps"])
        loss = class_loss + weight * cons_loss

        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        update_teacher(teacher, student, step, cfg["ema_decay"])

        if (step + 1) % 100 == 0:
            print(f"step {step + 1:4d}  class {class_loss.item():.3f}  cons {cons_loss.item():.4f}  "
                  f"val student {accuracy(student, x_val, y_val):.1f}  teacher {accuracy(teacher, x_val, y_val):.1f}")

    print(f"test accuracy: student {accuracy(student, x_test, y_test):.2f}%  "
          f"teacher {accuracy(teacher, x_test, y_test):.2f}%")


if __name__ == "__main__":
    main(config)
