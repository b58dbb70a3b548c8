"""Kind, color and box of a shape at once; the tasks' weights are learned as their uncertainties."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import NAMES, Shapes

KINDS, COLORS = ("square", "disc", "cross"), ("red", "blue")


def load(train):
    shapes = Shapes(train=train)
    images = (torch.stack(shapes.images) - 0.5) / 0.25
    colors, kinds = zip(*(NAMES[target].split() for target in shapes.targets))
    return TensorDataset(
        images,
        torch.tensor([KINDS.index(kind) for kind in kinds]),
        torch.tensor([COLORS.index(color) for color in colors]),
        torch.stack(shapes.boxes),
    )


class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        widths = (3, 24, 32, 64)
        layers = []
        for depth, (a, b) in enumerate(zip(widths, widths[1:])):
            layers += [nn.Conv2d(a, b, 3, 1 if depth == 0 else 2, 1, bias=False), nn.BatchNorm2d(b), nn.Mish()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 96), nn.Mish())
        self.heads = nn.ModuleDict({"kind": nn.Linear(96, 3), "color": nn.Linear(96, 2), "box": nn.Linear(96, 4)})

    def forward(self, images):
        shared = self.layers(images)
        return {name: head(shared) for name, head in self.heads.items()}


class UncertaintyLoss(nn.Module):
    """Kendall and others 2018. A sum with logarithms of variances: it may well become negative."""

    def __init__(self):
        super().__init__()
        self.log_var = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in ("kind", "color", "box")})

    def forward(self, outputs, kind, color, box):
        parts = {
            "kind": F.cross_entropy(outputs["kind"], kind),
            "color": F.cross_entropy(outputs["color"], color),
            "box": 0.5 * F.mse_loss(outputs["box"], box, reduction="none").mul(16).mean(),
        }
        total = sum(torch.exp(-self.log_var[name]) * part + 0.5 * self.log_var[name] for name, part in parts.items())
        return total, {name: part.item() for name, part in parts.items()}


def iou(a, b):
    corner = torch.maximum(a[:, :2], b[:, :2])
    other = torch.minimum(a[:, 2:], b[:, 2:])
    overlap = (other - corner).clamp(min=0).prod(1)
    area = lambda box: (box[:, 2:] - box[:, :2]).clamp(min=0).prod(1)
    return overlap / (area(a) + area(b) - overlap).clamp(min=1e-6)


def evaluate(model, loader):
    model.eval()
    kinds = colors = boxes = count = 0
    with torch.no_grad():
        for images, kind, color, box in loader:
            outputs = model(images)
            kinds += (outputs["kind"].argmax(1) == kind).sum().item()
            colors += (outputs["color"].argmax(1) == color).sum().item()
            boxes += iou(outputs["box"], box).sum().item()
            count += len(images)
    return kinds / count, colors / count, boxes / count


def main(epochs=24):
    torch.manual_seed(12)
    torch.set_num_threads(1)
    train_loader = DataLoader(load(True), batch_size=36, shuffle=True)
    valid_loader = DataLoader(load(False), batch_size=80)
    model, criterion = Trunk(), UncertaintyLoss()
    optimizer = torch.optim.AdamW(
        [
            {"params": model.parameters(), "weight_decay": 1e-2},
            {"params": criterion.parameters(), "lr": 5e-3, "weight_decay": 0.0},
        ],
        lr=1.5e-3,
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for images, *targets in train_loader:
            loss, _ = criterion(model(images), *targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        kind, color, box = evaluate(model, valid_loader)
        weights = {name: round(value.item(), 2) for name, value in criterion.log_var.items()}
        print(f"epoch {epoch:2d} loss {total / len(train_loader):+.4f} kind {kind:.3f} color {color:.3f} IoU {box:.3f} log variances {weights}")


main()
