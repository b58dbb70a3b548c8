# Knowledge distillation: a teacher learns four kinds of weave, then a student of depthwise convolutions learns from it.
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

SIZE, TEMPERATURE, MIX = 24, 3.0, 0.7
WEAVES = ("plain", "twill", "satin", "basket")


def weave(kind, y, x):
    if kind == 0:
        return (x + y) % 2 == 0
    if kind == 1:
        return (x + y) % 4 < 2
    if kind == 2:
        return (2 * x + y) % 5 == 0
    return (x // 2 + y // 2) % 2 == 0


def swatches(count, seed):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=g)
    images = torch.empty(count, 3, SIZE, SIZE)
    for i, label in enumerate(labels.tolist()):
        oy, ox = torch.randint(0, 20, (2,), generator=g).tolist()
        y = ((torch.arange(SIZE) + oy) // 2)[:, None]
        x = ((torch.arange(SIZE) + ox) // 2)[None, :]
        over = weave(label, y, x).float()
        warp = 0.45 + 0.4 * torch.rand(3, 1, 1, generator=g)
        images[i] = warp * (0.55 + 0.45 * over)
    images += 0.06 * torch.randn(images.shape, generator=g)
    return TensorDataset((images - 0.45) / 0.2, labels)


def teacher_net():
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(48, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 4),
    )


def student_net():
    def separable(cin, cout):
        return [nn.Conv2d(cin, cin, 3, padding=1, groups=cin, bias=False),
                nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]

    return nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        *separable(12, 24), nn.MaxPool2d(2), *separable(24, 24),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 4),
    )


def evaluate(net, loader):
    net.eval()
    hits = total = 0
    with torch.no_grad():
        for images, labels in loader:
            hits += (net(images).argmax(dim=-1) == labels).sum().item()
            total += labels.numel()
    return hits / total


def fit(net, train_loader, val_loader, epochs, objective, name):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(epochs):
        net.train()
        running, seen = 0.0, 0
        for images, labels in train_loader:
            loss = objective(net(images), images, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running, seen = running + loss.item() * len(labels), seen + len(labels)
        scheduler.step()
        print(f"{name} epoch {epoch + 1}: loss {running / seen:.4f}, val accuracy {evaluate(net, val_loader):.4f}")
    return net


def main():
    torch.manual_seed(17)
    train_loader = DataLoader(swatches(1600, seed=6), batch_size=32, shuffle=True)
    val_loader = DataLoader(swatches(320, seed=7), batch_size=80)

    teacher = fit(teacher_net(), train_loader, val_loader, 8,
                  lambda logits, images, labels: F.cross_entropy(logits, labels), "teacher")
    teacher.eval()
    for parameter in teacher.parameters():
        parameter.requires_grad = False

    def distill(logits, images, labels):
        with torch.no_grad():
            soft = F.softmax(teacher(images) / TEMPERATURE, dim=1)
        kd = F.kl_div(F.log_softmax(logits / TEMPERATURE, dim=1), soft, reduction="batchmean") * TEMPERATURE**2
        return MIX * kd + (1 - MIX) * F.cross_entropy(logits, labels)

    student = fit(student_net(), train_loader, val_loader, 12, distill, "student")
    count = lambda net: sum(p.numel() for p in net.parameters())
    print(f"teacher {count(teacher)} weights, student {count(student)} weights, "
          f"student accuracy {evaluate(student, val_loader):.4f}")


if __name__ == "__main__":
    main()
