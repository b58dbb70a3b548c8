"""Mean teacher: digits of which only ten per class are labelled, consistency with an averaged teacher on the rest."""

import copy
import itertools
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from toydata import draw_digits
from torch.utils.data import DataLoader, Dataset, Sampler

NO_LABEL = -1
NUM_CLASSES = 10
LABELS_PER_CLASS = 10

args = dict(
    epochs=13, batch_size=64, labeled_batch_size=16, base_lr=0.2, ema_decay=0.95, consistency=8.0, rampup_epochs=5
)


class SemiDigits(Dataset):
    def __init__(self, images, labels, train):
        self.images, self.labels, self.train = images, labels, train

    def __len__(self):
        return len(self.labels)

    def augment(self, x):
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        x = torch.roll(x, (dy, dx), dims=(1, 2))
        return x + 0.15 * torch.randn_like(x)

    def __getitem__(self, i):
        x = self.images[i].float() / 255
        if self.train:
            return self.augment(x), self.augment(x), self.labels[i]
        return x, self.labels[i]


class TwoStreamBatchSampler(Sampler):
    """An epoch is one pass over the unlabelled part; labelled indices are repeated as needed."""

    def __init__(self, unlabeled, labeled, batch_size, labeled_batch_size):
        self.unlabeled, self.labeled = unlabeled, labeled
        self.n_labeled, self.n_unlabeled = labeled_batch_size, batch_size - labeled_batch_size

    def __iter__(self):
        rest = iter(np.random.permutation(self.unlabeled).tolist())
        few = itertools.chain.from_iterable(np.random.permutation(self.labeled).tolist() for _ in itertools.count())
        for _ in range(len(self)):
            yield list(itertools.islice(few, self.n_labeled)) + list(itertools.islice(rest, self.n_unlabeled))

    def __len__(self):
        return len(self.unlabeled) // self.n_unlabeled


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        )
        self.fc = nn.Linear(32 * 4 * 4, NUM_CLASSES)

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))


@torch.no_grad()
def update_teacher(student, teacher, decay, step):
    alpha = min(1 - 1 / (step + 1), decay)
    for t, s in zip(teacher.parameters(), student.parameters()):
        t.mul_(alpha).add_(s, alpha=1 - alpha)
    for t, s in zip(teacher.buffers(), student.buffers()):
        if t.is_floating_point():
            t.mul_(alpha).add_(s, alpha=1 - alpha)
        else:
            t.copy_(s)


def consistency_weight(epoch):
    phase = 1.0 - min(epoch / args["rampup_epochs"], 1.0)
    return args["consistency"] * math.exp(-5.0 * phase * phase)


def validate(model, loader):
    model.eval()
    correct = total = 0
    with torch.no_grad():
        for x, y in loader:
            correct += (model(x).argmax(1) == y).sum().item()
            total += y.size(0)
    return 100.0 * correct / total


def main():
    torch.manual_seed(0)
    np.random.seed(0)
    images, labels = draw_digits(1500, seed=20, noise=0.2)
    test_images, test_labels = draw_digits(400, seed=21, noise=0.2)
    labeled = np.concatenate([np.flatnonzero(labels == c)[:LABELS_PER_CLASS] for c in range(NUM_CLASSES)])
    unlabeled = np.setdiff1d(np.arange(len(labels)), labeled)
    targets = labels.clone()
    targets[unlabeled] = NO_LABEL

    sampler = TwoStreamBatchSampler(unlabeled, labeled, args["batch_size"], args["labeled_batch_size"])
    train_loader = DataLoader(SemiDigits(images, targets, train=True), batch_sampler=sampler)
    test_loader = DataLoader(SemiDigits(test_images, test_labels, train=False), batch_size=100)

    student = ConvNet()
    teacher = copy.deepcopy(student)
    teacher.requires_grad_(False)
    lr = args["base_lr"] * args["batch_size"] / 256
    optimizer = torch.optim.SGD(student.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4, nesterov=True)
    criterion = nn.CrossEntropyLoss(ignore_index=NO_LABEL)

    step = 0
    for epoch in range(args["epochs"]):
        student.train()
        teacher.eval()
        for view1, view2, target in train_loader:
            logits = student(view1)
            with torch.no_grad():
                teacher_logits = teacher(view2)
            class_loss = criterion(logits, target)
            consistency_loss = F.mse_loss(logits.softmax(1), teacher_logits.softmax(1))
            loss = class_loss + consistency_weight(epoch) * consistency_loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            update_teacher(student, teacher, args["ema_decay"], step)
        print(
            f"epoch {epoch:2d} class {class_loss.item():.3f} cons {consistency_loss.item():.4f} "
            f"student {validate(student, test_loader):.1f}% teacher {validate(teacher, test_loader):.1f}%"
        )


if __name__ == "__main__":
    main()
