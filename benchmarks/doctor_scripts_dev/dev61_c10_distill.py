"""Knowledge distillation: a CNN teaches a smaller one, in the manner of haitongli/knowledge-distillation-pytorch."""
import copy
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes

PARAMS = SimpleNamespace(
    batch_size=32, teacher_epochs=6, student_epochs=8, teacher_lr=2e-3, student_lr=3e-3, alpha=0.7, temperature=3.0, seed=230
)


def normalize(image):
    return (image - 0.5) / 0.25


def conv_bn(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class ConvNet(nn.Module):
    def __init__(self, width, num_classes=len(NAMES), dropout=0.0):
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(3, width), nn.MaxPool2d(2), conv_bn(width, 2 * width), nn.MaxPool2d(2), conv_bn(2 * width, 2 * width)
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * width * 16, num_classes)

    def forward(self, x):
        return self.classifier(self.dropout(self.features(x).flatten(1)))


class RunningAverage:
    def __init__(self):
        self.steps, self.total = 0, 0.0

    def update(self, value, n=1):
        self.total += value * n
        self.steps += n

    def __call__(self):
        return self.total / max(1, self.steps)


def loss_fn_kd(outputs, labels, teacher_outputs, params):
    """Cross entropy with the labels, and what parts the softened outputs of student and teacher."""
    alpha, T = params.alpha, params.temperature
    soft = F.kl_div(F.log_softmax(outputs / T, dim=1), F.softmax(teacher_outputs / T, dim=1), reduction="batchmean")
    hard = F.cross_entropy(outputs, labels)
    return alpha * T * T * soft + (1.0 - alpha) * hard


@torch.no_grad()
def evaluate(model, dataloader):
    model.eval()
    accuracy, loss = RunningAverage(), RunningAverage()
    for images, labels in dataloader:
        outputs = model(images)
        accuracy.update((outputs.argmax(dim=1) == labels).float().mean().item(), len(labels))
        loss.update(F.cross_entropy(outputs, labels).item(), len(labels))
    return accuracy(), loss()


def train(model, optimizer, compute_loss, dataloader):
    model.train()
    average = RunningAverage()
    for images, labels in dataloader:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(images)
        loss = compute_loss(images, outputs.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(loss.item(), len(labels))
    return average()


def train_and_evaluate(name, model, optimizer, scheduler, compute_loss, train_dl, dev_dl, epochs):
    best_acc, best_state = -1.0, None
    for epoch in range(epochs):
        loss = train(model, optimizer, compute_loss, train_dl)
        scheduler.step()
        acc, dev_loss = evaluate(model, dev_dl)
        print(f"{name} {epoch + 1}/{epochs}: train loss {loss:.4f}, dev loss {dev_loss:.4f}, dev accuracy {acc:.4f}")
        if acc >= best_acc:
            best_acc, best_state = acc, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    return best_acc


def main():
    params = PARAMS
    torch.manual_seed(params.seed)
    train_dl = DataLoader(Shapes(train=True, transform=normalize), batch_size=params.batch_size, shuffle=True, drop_last=True)
    dev_dl = DataLoader(Shapes(train=False, transform=normalize), batch_size=80)

    teacher = ConvNet(width=16, dropout=0.2)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=params.teacher_lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)

    def plain_loss(images, outputs, labels):
        return F.cross_entropy(outputs, labels)

    teacher_acc = train_and_evaluate(
        "teacher", teacher, optimizer, scheduler, plain_loss, train_dl, dev_dl, params.teacher_epochs
    )
    teacher.eval().requires_grad_(False)

    student = ConvNet(width=6)
    optimizer = torch.optim.Adam(student.parameters(), lr=params.student_lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)

    def kd_loss(images, outputs, labels):
        with torch.no_grad():
            teacher_outputs = teacher(images)
        return loss_fn_kd(outputs, labels, teacher_outputs, params)

    student_acc = train_and_evaluate(
        "student", student, optimizer, scheduler, kd_loss, train_dl, dev_dl, params.student_epochs
    )
    sizes = [sum(p.numel() for p in model.parameters()) for model in (teacher, student)]
    print(f"teacher {teacher_acc:.4f} ({sizes[0]} parameters), student {student_acc:.4f} ({sizes[1]} parameters)")


if __name__ == "__main__":
    main()
