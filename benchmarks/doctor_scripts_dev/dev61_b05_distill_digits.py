"""Knowledge distillation (Hinton et al.): a convolutional teacher, a small student that learns from its soft targets."""

import copy
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

params = SimpleNamespace(
    teacher_epochs=4,
    student_epochs=8,
    batch_size=40,
    learning_rate=0.03,
    momentum=0.9,
    alpha=0.7,
    temperature=4.0,
    dropout_rate=0.3,
)


class RunningAverage:
    def __init__(self):
        self.steps = 0
        self.total = 0.0

    def update(self, val, n=1):
        self.total += val * n
        self.steps += n

    def __call__(self):
        return self.total / max(self.steps, 1)


class TeacherNet(nn.Module):
    def __init__(self, num_channels=16, dropout_rate=0.3):
        super().__init__()
        self.conv1 = nn.Conv2d(1, num_channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(num_channels)
        self.conv2 = nn.Conv2d(num_channels, num_channels * 2, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(num_channels * 2)
        self.fc1 = nn.Linear(4 * 4 * num_channels * 2, 64)
        self.fc2 = nn.Linear(64, 10)
        self.dropout_rate = dropout_rate

    def forward(self, s):
        s = F.relu(F.max_pool2d(self.bn1(self.conv1(s)), 2))
        s = F.relu(F.max_pool2d(self.bn2(self.conv2(s)), 2))
        s = F.relu(self.fc1(s.flatten(1)))
        s = F.dropout(s, p=self.dropout_rate, training=self.training)
        return self.fc2(s)


class StudentNet(nn.Module):
    def __init__(self, num_channels=8):
        super().__init__()
        self.conv1 = nn.Conv2d(1, num_channels, 5, stride=2, padding=2)
        self.fc1 = nn.Linear(8 * 8 * num_channels, 48)
        self.fc2 = nn.Linear(48, 10)

    def forward(self, s):
        s = F.relu(self.conv1(s))
        s = F.relu(self.fc1(s.flatten(1)))
        return self.fc2(s)


def loss_fn_kd(outputs, labels, teacher_outputs, params):
    """Soft targets at temperature T, hard ones with the share 1 - alpha."""
    alpha, T = params.alpha, params.temperature
    soft = F.kl_div(F.log_softmax(outputs / T, dim=1), F.softmax(teacher_outputs / T, dim=1), reduction="batchmean")
    return soft * (alpha * T * T) + F.cross_entropy(outputs, labels) * (1.0 - alpha)


def train_transform(image):
    image = image.float() / 255
    image = image + 0.05 * torch.randn_like(image)
    return (image - 0.2) / 0.33


def val_transform(image):
    return (image.float() / 255 - 0.2) / 0.33


def train(model, optimizer, loss_fn, dataloader):
    model.train()
    loss_avg = RunningAverage()
    for train_batch, labels_batch in dataloader:
        output_batch = model(train_batch)
        loss = loss_fn(output_batch, labels_batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_avg.update(loss.item(), len(labels_batch))
    return loss_avg()


def train_kd(model, teacher_model, optimizer, dataloader, params):
    model.train()
    teacher_model.eval()
    loss_avg = RunningAverage()
    for train_batch, labels_batch in dataloader:
        output_batch = model(train_batch)
        with torch.no_grad():
            output_teacher_batch = teacher_model(train_batch)
        loss = loss_fn_kd(output_batch, labels_batch, output_teacher_batch, params)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_avg.update(loss.item(), len(labels_batch))
    return loss_avg()


@torch.no_grad()
def evaluate(model, dataloader):
    model.eval()
    acc_avg = RunningAverage()
    for data_batch, labels_batch in dataloader:
        predictions = model(data_batch).argmax(dim=1)
        acc_avg.update((predictions == labels_batch).float().mean().item(), len(labels_batch))
    return acc_avg()


def train_and_evaluate(name, model, train_step, val_dl, epochs):
    best_val_acc, best_weights = 0.0, None
    for epoch in range(epochs):
        loss = train_step()
        val_acc = evaluate(model, val_dl)
        if val_acc >= best_val_acc:
            best_val_acc = val_acc
            best_weights = copy.deepcopy(model.state_dict())
        print(f"{name} epoch {epoch + 1}/{epochs}: loss {loss:.4f}, val accuracy {val_acc:.3f}")
    model.load_state_dict(best_weights)
    print(f"- {name}: best accuracy {evaluate(model, val_dl):.3f}")


def main():
    torch.manual_seed(230)
    train_dl = DataLoader(Digits(train=True, transform=train_transform), batch_size=params.batch_size, shuffle=True)
    val_dl = DataLoader(Digits(train=False, transform=val_transform), batch_size=params.batch_size)

    def sgd(model):
        return torch.optim.SGD(model.parameters(), lr=params.learning_rate, momentum=params.momentum)

    teacher = TeacherNet(dropout_rate=params.dropout_rate)
    teacher_optimizer = sgd(teacher)
    step = lambda: train(teacher, teacher_optimizer, F.cross_entropy, train_dl)
    train_and_evaluate("teacher", teacher, step, val_dl, params.teacher_epochs)

    student = StudentNet()
    student_optimizer = sgd(student)
    step = lambda: train_kd(student, teacher, student_optimizer, train_dl, params)
    train_and_evaluate("student", student, step, val_dl, params.student_epochs)


if __name__ == "__main__":
    main()
