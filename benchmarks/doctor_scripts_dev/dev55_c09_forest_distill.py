"""Distills a random forest, which sees spectra, into a small convolutional network, which sees the waves."""
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.ensemble import RandomForestClassifier
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


def spectra(signals):
    return torch.fft.rfft(signals.squeeze(1), dim=-1).abs().numpy()


class Teacher:
    """Out-of-bag probabilities for what it was fitted to, so that they are not those of samples learned by heart."""

    def __init__(self, signals, labels, trees=100, seed=0):
        self.forest = RandomForestClassifier(trees, oob_score=True, random_state=seed, n_jobs=1)
        self.forest.fit(spectra(signals), labels.numpy())

    def training_probabilities(self):
        return torch.from_numpy(self.forest.oob_decision_function_.astype(np.float32))

    def accuracy(self, signals, labels):
        return self.forest.score(spectra(signals), labels.numpy())


class Student(nn.Module):
    def __init__(self, width=16, classes=4):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, width, 9, padding=4),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.Conv1d(width, 2 * width, 7, stride=2, padding=3),
            nn.GroupNorm(4, 2 * width),
            nn.ReLU(),
            nn.Conv1d(2 * width, 2 * width, 5, padding=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(2 * width, classes),
        )

    def forward(self, x):
        return self.net(x)


class DistillKL(nn.Module):
    """Hinton et al.: both distributions softened by T, gradients brought back to scale by T squared."""

    def __init__(self, T):
        super().__init__()
        self.T = T

    def forward(self, student_logits, teacher_probs):
        soft = F.softmax(teacher_probs.clamp(min=1e-3).log() / self.T, dim=1)
        log_p = F.log_softmax(student_logits / self.T, dim=1)
        return F.kl_div(log_p, soft, reduction="batchmean") * self.T**2


def train_distill(epoch, loader, student, criterion_cls, criterion_div, optimizer, opt):
    student.train()
    seen, total, correct = 0, torch.zeros(()), torch.zeros(())
    for signals, labels, teacher_probs in loader:
        logits = student(signals)
        loss_cls = criterion_cls(logits, labels)
        loss_div = criterion_div(logits, teacher_probs)
        loss = opt.gamma * loss_cls + opt.alpha * loss_div

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        seen += len(labels)
        total += loss.detach() * len(labels)
        correct += (logits.argmax(1) == labels).sum()
    return (total / seen).item(), (correct / seen).item()


@torch.no_grad()
def validate(loader, student):
    student.eval()
    correct, seen = 0, 0
    for signals, labels in loader:
        correct += (student(signals).argmax(1) == labels).sum().item()
        seen += len(labels)
    return correct / seen


def parse_option():
    parser = argparse.ArgumentParser("student training")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=40)
    parser.add_argument("--learning_rate", type=float, default=4e-3)
    parser.add_argument("-T", "--temperature", type=float, default=2.0)
    parser.add_argument("-r", "--gamma", type=float, default=0.5, help="weight of classification")
    parser.add_argument("-a", "--alpha", type=float, default=0.5, help="weight of the teacher")
    parser.add_argument("--trial", type=int, default=0, help="seed")
    return parser.parse_args()


def main():
    opt = parse_option()
    torch.manual_seed(opt.trial)
    train_signals, train_labels = waves(1000, seed=0)
    val_signals, val_labels = waves(300, seed=1)

    teacher = Teacher(train_signals, train_labels, seed=opt.trial)
    print(f"teacher accuracy: {teacher.accuracy(val_signals, val_labels):.3f}")
    train_set = TensorDataset(train_signals, train_labels, teacher.training_probabilities())
    train_loader = DataLoader(train_set, batch_size=opt.batch_size, shuffle=True)
    val_loader = DataLoader(TensorDataset(val_signals, val_labels), batch_size=100)

    student = Student()
    criterion_cls = nn.CrossEntropyLoss()
    criterion_div = DistillKL(opt.temperature)
    optimizer = torch.optim.NAdam(student.parameters(), lr=opt.learning_rate)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[6, 8], gamma=0.3)

    for epoch in range(1, opt.epochs + 1):
        loss, train_acc = train_distill(epoch, train_loader, student, criterion_cls, criterion_div, optimizer, opt)
        val_acc = validate(val_loader, student)
        scheduler.step()
        print(f" * epoch {epoch} loss {loss:.3f} train {train_acc:.3f} validation {val_acc:.3f}")
    print(f"student accuracy: {val_acc:.3f}")


if __name__ == "__main__":
    main()
