"""Distillation of a wide network of digits into a narrow one, after haitongli/knowledge-distillation-pytorch."""
import logging
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits


class RunningAverage:
    def __init__(self):
        self.steps, self.total = 0, 0.0

    def update(self, val):
        self.total += val
        self.steps += 1

    def __call__(self):
        return self.total / self.steps


class ConvNet(nn.Module):
    def __init__(self, channels, hidden, dropout=0.0):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * channels)
        self.fc1 = nn.Linear(2 * channels * 16, hidden)
        self.fc2 = nn.Linear(hidden, 10)
        self.dropout = nn.Dropout(dropout)

    def forward(self, s):
        s = F.max_pool2d(F.relu(self.bn1(self.conv1(s))), 2)
        s = F.max_pool2d(F.relu(self.bn2(self.conv2(s))), 2)
        s = self.dropout(F.relu(self.fc1(s.flatten(1))))
        return self.fc2(s)


def loss_fn(outputs, labels):
    return F.cross_entropy(outputs, labels)


def loss_fn_kd(outputs, labels, teacher_outputs, params):
    alpha, T = params.alpha, params.temperature
    soft = F.kl_div(
        F.log_softmax(outputs / T, dim=1), F.softmax(teacher_outputs / T, dim=1), reduction="batchmean"
    )
    return alpha * T * T * soft + (1.0 - alpha) * F.cross_entropy(outputs, labels)


def transform(image):
    return (image.float() / 255 - 0.2) / 0.3


def train(model, optimizer, dataloader, params, teacher=None):
    model.train()
    loss_avg = RunningAverage()
    for train_batch, labels_batch in dataloader:
        output_batch = model(train_batch)
        if teacher is None:
            loss = loss_fn(output_batch, labels_batch)
        else:
            with torch.no_grad():
                output_teacher_batch = teacher(train_batch)
            loss = loss_fn_kd(output_batch, labels_batch, output_teacher_batch, params)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_avg.update(loss.item())
    return loss_avg()


@torch.no_grad()
def evaluate(model, dataloader):
    model.eval()
    correct, total, loss = 0, 0, 0.0
    for data_batch, labels_batch in dataloader:
        output_batch = model(data_batch)
        loss += F.cross_entropy(output_batch, labels_batch, reduction="sum").item()
        correct += (output_batch.argmax(1) == labels_batch).sum().item()
        total += labels_batch.size(0)
    return {"loss": loss / total, "accuracy": correct / total}


def train_and_evaluate(name, model, loaders, params, epochs, teacher=None):
    optimizer = torch.optim.Adam(model.parameters(), lr=params.learning_rate)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    best, state = -1.0, None
    for epoch in range(epochs):
        train_loss = train(model, optimizer, loaders["train"], params, teacher)
        scheduler.step()
        metrics = evaluate(model, loaders["val"])
        logging.info(
            "%s epoch %d train loss %.4f val loss %.4f val accuracy %.3f",
            name, epoch + 1, train_loss, metrics["loss"], metrics["accuracy"],
        )
        if metrics["accuracy"] >= best:
            best = metrics["accuracy"]
            state = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    return best


def main():
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    params = SimpleNamespace(
        learning_rate=2e-3, batch_size=40, alpha=0.9, temperature=4.0, teacher_epochs=5, student_epochs=8
    )
    torch.manual_seed(230)
    loaders = {
        "train": DataLoader(Digits(train=True, transform=transform), batch_size=params.batch_size, shuffle=True),
        "val": DataLoader(Digits(train=False, transform=transform), batch_size=100),
    }
    teacher = ConvNet(20, 128, dropout=0.3)
    teacher_accuracy = train_and_evaluate("teacher", teacher, loaders, params, params.teacher_epochs)
    teacher.eval()
    for p in teacher.parameters():
        p.requires_grad_(False)
    student = ConvNet(8, 32)
    accuracy = train_and_evaluate("student", student, loaders, params, params.student_epochs, teacher)
    logging.info("teacher %.3f student %.3f", teacher_accuracy, accuracy)


if __name__ == "__main__":
    main()
