import copy
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes


class ConvNet(nn.Module):
    """Three stages of convolutions; `width` says how wide, features always have 64 channels."""

    def __init__(self, width, depth=1, num_classes=6):
        super().__init__()
        layers, channels = [], 3
        for stage, out in enumerate((width, width * 2, 64)):
            for _ in range(depth):
                layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
                channels = out
            if stage < 2:
                layers.append(nn.MaxPool2d(2))
        self.backbone = nn.Sequential(*layers)
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.head(self.backbone(x).mean(dim=(2, 3)))


def load_data():
    train, test = Shapes(train=True), Shapes(train=False)
    images, targets = torch.stack(train.images), torch.tensor(train.targets)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(3))
    train_idx, val_idx = order[:750], order[750:]
    mean = images[train_idx].mean((0, 2, 3), keepdim=True)
    std = images[train_idx].std((0, 2, 3), keepdim=True)
    images = (images - mean) / std
    return (
        TensorDataset(images[train_idx], targets[train_idx]),
        TensorDataset(images[val_idx], targets[val_idx]),
        TensorDataset((torch.stack(test.images) - mean) / std, torch.tensor(test.targets)),
    )


def random_flip(images):
    left_right = torch.rand(len(images), 1, 1, 1) < 0.5
    images = torch.where(left_right, images.flip(3), images)
    up_down = torch.rand(len(images), 1, 1, 1) < 0.5
    return torch.where(up_down, images.flip(2), images)


def hard_criterion(images, logits, targets):
    return F.cross_entropy(logits, targets)


class SoftCriterion:
    def __init__(self, teacher, temperature=3.0, alpha=0.9):
        self.teacher = teacher
        self.temperature = temperature
        self.alpha = alpha

    def __call__(self, images, logits, targets):
        with torch.no_grad():
            wanted = F.softmax(self.teacher(images) / self.temperature, dim=1)
        given = F.log_softmax(logits / self.temperature, dim=1)
        soft = F.kl_div(given, wanted, reduction="batchmean") * self.temperature**2
        return self.alpha * soft + (1 - self.alpha) * F.cross_entropy(logits, targets)


def train_one_epoch(model, criterion, optimizer, loader):
    model.train()
    losses = []
    for images, targets in loader:
        images = random_flip(images)
        loss = criterion(images, model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()


@torch.inference_mode()
def evaluate(model, loader):
    model.eval()
    hits = sum((model(images).argmax(1) == targets).sum().item() for images, targets in loader)
    return hits / len(loader.dataset)


def fit(name, model, criterion, loader, val_loader, epochs, lr):
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    best_acc, best_state = -1.0, None
    for epoch in range(epochs):
        loss = train_one_epoch(model, criterion, optimizer, loader)
        scheduler.step()
        acc = evaluate(model, val_loader)
        if acc > best_acc:
            best_acc, best_state = acc, copy.deepcopy(model.state_dict())
        print(f"{name} [{epoch}] loss {loss:.4f} val acc {acc:.3f}")
    model.load_state_dict(best_state)
    return model


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train_set, val_set, test_set = load_data()
    loader = DataLoader(train_set, batch_size=50, shuffle=True)
    val_loader, test_loader = DataLoader(val_set, batch_size=150), DataLoader(test_set, batch_size=120)

    start = time.time()
    teacher = fit("teacher", ConvNet(24, depth=2), hard_criterion, loader, val_loader, epochs=10, lr=3e-3)
    teacher.eval()
    teacher.requires_grad_(False)

    student = ConvNet(12)
    student = fit("student", student, SoftCriterion(teacher), loader, val_loader, epochs=16, lr=5e-3)

    print(f"teacher test acc {evaluate(teacher, test_loader):.3f}")
    print(f"student test acc {evaluate(student, test_loader):.3f}")
    print(f"{time.time() - start:.1f} s")


if __name__ == "__main__":
    main()
