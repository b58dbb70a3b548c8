"""Knowledge distillation: a wide teacher and a small student on few labelled digits."""
import argparse
import logging

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

logging.basicConfig(level=logging.INFO, format="%(message)s")


class Params:
    """Hyper-parameters in the way of a params.json."""

    def __init__(self, **kwargs):
        self.__dict__.update(kwargs)


class RunningAverage:
    def __init__(self):
        self.steps, self.total = 0, 0.0

    def update(self, val):
        self.total += val
        self.steps += 1

    def __call__(self):
        return self.total / float(max(1, self.steps))


class Teacher(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc1 = nn.Linear(2 * width * 4, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.dropout(F.relu(self.fc1(x.flatten(1))), 0.3, training=self.training)
        return self.fc2(x)


class Student(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.fc1 = nn.Linear(width * 16, 24)
        self.fc2 = nn.Linear(24, 10)

    def forward(self, x):
        h = F.max_pool2d(F.relu(self.conv(x)), 2)
        h = F.relu(self.fc1(h.flatten(1)))
        return self.fc2(h)


def loss_fn_kd(outputs, labels, teacher_outputs, params):
    """KL divergence between the softened outputs plus cross entropy with the labels."""
    alpha, T = params.alpha, params.temperature
    soft = F.kl_div(F.log_softmax(outputs / T, dim=1), F.softmax(teacher_outputs / T, dim=1), reduction="batchmean")
    hard = F.cross_entropy(outputs, labels)
    return soft * (alpha * T * T) + hard * (1.0 - alpha)


def fetch_dataloaders(params):
    digits = load_digits()
    rng = np.random.default_rng(params.seed)
    order = rng.permutation(len(digits.target))
    x = torch.tensor(digits.images[order] / 16.0, dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(digits.target[order])
    x = (x - 0.305) / 0.376
    train_ds = TensorDataset(x[:1200], y[:1200])
    dev_ds = TensorDataset(x[1200:], y[1200:])
    return {"train": DataLoader(train_ds, batch_size=params.batch_size, shuffle=True),
            "val": DataLoader(dev_ds, batch_size=256, shuffle=False)}


def evaluate(model, dataloader):
    model.eval()
    correct, total = 0, 0
    with torch.no_grad():
        for data_batch, labels_batch in dataloader:
            output_batch = model(data_batch)
            correct += (output_batch.argmax(dim=1) == labels_batch).sum().item()
            total += labels_batch.size(0)
    return correct / total


def train_teacher(teacher, dataloaders, params):
    optimizer = optim.Adam(teacher.parameters(), lr=2e-3)
    for epoch in range(params.teacher_epochs):
        teacher.train()
        for data_batch, labels_batch in dataloaders["train"]:
            loss = F.cross_entropy(teacher(data_batch), labels_batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        logging.info("teacher epoch %d val accuracy %.4f", epoch + 1, evaluate(teacher, dataloaders["val"]))


def train_kd(student, teacher, dataloaders, params):
    teacher.eval()
    for p in teacher.parameters():
        p.requires_grad_(False)
    optimizer = optim.SGD(student.parameters(), lr=params.learning_rate, momentum=0.9, weight_decay=5e-4)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.3)
    for epoch in range(params.num_epochs):
        student.train()
        loss_avg = RunningAverage()
        for train_batch, labels_batch in dataloaders["train"]:
            output_batch = student(train_batch)
            with torch.no_grad():
                output_teacher_batch = teacher(train_batch)
            loss = loss_fn_kd(output_batch, labels_batch, output_teacher_batch, params)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_avg.update(loss.item())
        scheduler.step()
        student_acc = evaluate(student, dataloaders["val"])
        logging.info("student epoch %d loss %.4f val accuracy %.4f", epoch + 1, loss_avg(), student_acc)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--alpha", type=float, default=0.9)
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--num_epochs", type=int, default=12)
    parser.add_argument("--learning_rate", type=float, default=0.05)
    args = parser.parse_args()
    params = Params(batch_size=32, teacher_epochs=3, seed=230, **vars(args))
    torch.manual_seed(params.seed)
    dataloaders = fetch_dataloaders(params)
    teacher_model, student_model = Teacher(), Student()
    train_teacher(teacher_model, dataloaders, params)
    train_kd(student_model, teacher_model, dataloaders, params)
