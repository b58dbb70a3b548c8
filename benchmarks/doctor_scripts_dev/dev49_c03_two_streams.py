"""Few labels, many images: a student, and a teacher that is its running average."""
import copy
import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from toydata import Shapes


@dataclass
class Config:
    seed: int = 0
    n_valid: int = 120
    n_labeled: int = 300
    labeled_per_batch: int = 20
    unlabeled_per_batch: int = 40
    epochs: int = 18
    rampup: int = 6
    lr: float = 2e-3
    decay: float = 0.97
    consistency: float = 8.0


NO_LABEL = -1


class PartlyLabeled(Dataset):
    def __init__(self, base, labeled):
        self.base, self.labeled = base, set(labeled)

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, target = self.base[index]
        return image, target if index in self.labeled else NO_LABEL


class TwoStreamSampler(Sampler):
    """Every batch: some labeled samples, which come again and again, and unlabeled ones, each once an epoch."""

    def __init__(self, labeled, unlabeled, cfg):
        self.labeled, self.unlabeled, self.cfg = torch.tensor(labeled), torch.tensor(unlabeled), cfg

    def __iter__(self):
        order = self.unlabeled[torch.randperm(len(self.unlabeled))]
        for chunk in order.split(self.cfg.unlabeled_per_batch):
            chosen = torch.randperm(len(self.labeled))[: self.cfg.labeled_per_batch]
            yield torch.cat([self.labeled[chosen], chunk]).tolist()

    def __len__(self):
        return math.ceil(len(self.unlabeled) / self.cfg.unlabeled_per_batch)


class ConvNet(nn.Module):
    def __init__(self, num_classes=6, width=24):
        super().__init__()
        layers, cin = [], 3
        for cout, pool in ((width, False), (width, True), (2 * width, True), (4 * width, False)):
            layers += [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if pool else []
            cin = cout
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(cin, num_classes)

    def forward(self, x):
        return self.classifier(self.body(x).amax(dim=(2, 3)))


def normalize(image):
    return (image - 0.5) / 0.25


def view(x):
    flip = torch.rand(len(x), 1, 1, 1) < 0.5
    x = torch.where(flip, x.flip(3), x)
    return x + 0.15 * torch.randn_like(x)


@torch.no_grad()
def update_teacher(teacher, student, decay):
    for t, s in zip(teacher.parameters(), student.parameters()):
        t.lerp_(s, 1 - decay)
    for t, s in zip(teacher.buffers(), student.buffers()):
        t.copy_(s)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)


def main(cfg):
    torch.manual_seed(cfg.seed)
    base = Shapes(train=True, transform=normalize)
    order = torch.randperm(len(base)).tolist()
    valid, rest = order[: cfg.n_valid], order[cfg.n_valid :]
    labeled, unlabeled = rest[: cfg.n_labeled], rest[cfg.n_labeled :]

    train_loader = DataLoader(PartlyLabeled(base, labeled), batch_sampler=TwoStreamSampler(labeled, unlabeled, cfg))
    valid_loader = DataLoader(Subset(base, valid), batch_size=60)
    test_loader = DataLoader(Shapes(train=False, transform=normalize), batch_size=60)

    student = ConvNet()
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), lr=cfg.lr)

    step, best, best_state = 0, -1.0, None
    for epoch in range(cfg.epochs):
        ramp = math.exp(-5 * (1 - min(1.0, epoch / cfg.rampup)) ** 2)
        student.train()
        teacher.eval()
        supervised = agreement = 0.0
        for x, y in train_loader:
            logits = student(view(x))
            with torch.no_grad():
                wanted = teacher(view(x)).softmax(1)
            loss_class = F.cross_entropy(logits, y, ignore_index=NO_LABEL)
            loss_agree = F.mse_loss(logits.softmax(1), wanted)
            loss = loss_class + cfg.consistency * ramp * loss_agree
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            update_teacher(teacher, student, min(cfg.decay, 1 - 1 / (step + 1)))
            supervised += loss_class.detach() / len(train_loader)
            agreement += loss_agree.detach() / len(train_loader)
        accuracy = evaluate(teacher, valid_loader)
        print(f"[{epoch:02d}] class {supervised:.3f} agree {agreement:.4f} (x{ramp:.2f}) | valid {accuracy:.3f}")
        if accuracy > best:
            best, best_state = accuracy, copy.deepcopy(teacher.state_dict())

    teacher.load_state_dict(best_state)
    print(f"best valid {best:.3f}, test {evaluate(teacher, test_loader):.3f}")


if __name__ == "__main__":
    main(Config())
