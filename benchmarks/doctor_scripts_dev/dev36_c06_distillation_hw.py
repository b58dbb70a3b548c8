# CS homework 4: knowledge distillation.
#   1. train a teacher   2. train a student alone   3. train the same student with the teacher's soft labels
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

import toydata

TEMPERATURE = 3.0
ALPHA = 0.7


class ConvNet(nn.Module):
    """Three blocks of convolution, batch norm and ReLU; widths tell teacher from student."""

    def __init__(self, widths, dropout=0.0):
        super().__init__()
        blocks, c = [], 1
        for i, w in enumerate(widths):
            blocks += [nn.Conv2d(c, w, kernel_size=3, padding=1), nn.BatchNorm2d(w), nn.ReLU()]
            if i < len(widths) - 1:
                blocks.append(nn.MaxPool2d(2))
            c = w
        self.features = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(c * 2 * 2, 10)

    def forward(self, x):
        x = F.adaptive_avg_pool2d(self.features(x), 2)
        return self.classifier(self.dropout(x.flatten(1)))


def get_data(batch_size=60):
    x, y = toydata.draw_digits(1200, seed=5)
    x_test, y_test = toydata.draw_digits(400, seed=6)
    x, x_test = x.float() / 255, x_test.float() / 255
    mean, std = x.mean(), x.std()
    full = TensorDataset((x - mean) / std, y)
    train_set, val_set = random_split(full, [1020, 180], generator=torch.Generator().manual_seed(0))
    test_set = TensorDataset((x_test - mean) / std, y_test)
    return (
        DataLoader(train_set, batch_size=batch_size, shuffle=True),
        DataLoader(val_set, batch_size=180),
        DataLoader(test_set, batch_size=200),
    )


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    right = sum((model(x).argmax(dim=1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)


def hard_loss(model, x, y):
    return F.cross_entropy(model(x), y)


def make_distillation_loss(teacher):
    teacher.eval()
    for p in teacher.parameters():
        p.requires_grad_(False)

    def loss_fn(model, x, y):
        with torch.no_grad():
            teacher_logits = teacher(x)
        student_logits = model(x)
        soft = F.kl_div(
            F.log_softmax(student_logits / TEMPERATURE, dim=1),
            F.softmax(teacher_logits / TEMPERATURE, dim=1),
            reduction="batchmean",
        ) * TEMPERATURE**2
        return ALPHA * soft + (1 - ALPHA) * F.cross_entropy(student_logits, y)

    return loss_fn


def fit(model, loss_fn, train_loader, val_loader, epochs, lr, name):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    best_acc, best_state = -1.0, None
    for epoch in range(epochs):
        model.train()
        epoch_loss = 0.0
        for x, y in train_loader:
            loss = loss_fn(model, x, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            epoch_loss += loss.item() * x.size(0)
        scheduler.step()
        val_acc = accuracy(model, val_loader)
        print(f"[{name}] epoch {epoch + 1}/{epochs} loss {epoch_loss / len(train_loader.dataset):.4f} val acc {val_acc:.3f}")
        if val_acc > best_acc:
            best_acc = val_acc
            best_state = copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    return model


def main():
    torch.manual_seed(0)
    train_loader, val_loader, test_loader = get_data()

    teacher = ConvNet([24, 48, 64], dropout=0.2)
    fit(teacher, hard_loss, train_loader, val_loader, epochs=8, lr=3e-3, name="teacher")

    torch.manual_seed(1)
    student_init = ConvNet([8, 12, 16])
    alone, distilled = copy.deepcopy(student_init), copy.deepcopy(student_init)
    fit(alone, hard_loss, train_loader, val_loader, epochs=12, lr=8e-3, name="student alone")
    fit(distilled, make_distillation_loss(teacher), train_loader, val_loader, epochs=12, lr=8e-3, name="distilled")

    print("parameters: teacher %d, student %d" % tuple(sum(p.numel() for p in m.parameters()) for m in (teacher, alone)))
    for name, model in [("teacher", teacher), ("student alone", alone), ("student distilled", distilled)]:
        print(f"{name:18s} test accuracy {accuracy(model, test_loader):.3f}")


if __name__ == "__main__":
    main()
