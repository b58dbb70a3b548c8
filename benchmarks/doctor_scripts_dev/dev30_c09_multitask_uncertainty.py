"""Color, kind and box of a shape from one network; the losses weigh themselves (Kendall et al., homoscedastic uncertainty)."""

import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class ShapeTasks(Dataset):
    def __init__(self, train):
        self.base = Shapes(train=train, count=1200 if train else 300, size=20)

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, target = self.base[index]
        return {
            "image": (image - 0.5) / 0.2,
            "color": target // 3,
            "kind": target % 3,
            "box": self.base.boxes[index],
        }


class MultiTaskNet(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * 25, 96),
            nn.ReLU(),
        )
        self.heads = nn.ModuleDict({"color": nn.Linear(96, 2), "kind": nn.Linear(96, 3), "box": nn.Linear(96, 4)})

    def forward(self, x):
        features = self.trunk(x)
        return {name: head(features) for name, head in self.heads.items()}


class UncertaintyWeighting(nn.Module):
    """sum of exp(-s) * loss + s / 2, one s for each task."""

    def __init__(self, tasks):
        super().__init__()
        self.log_variances = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in tasks})

    def forward(self, losses):
        total = 0.0
        for task, loss in losses.items():
            s = self.log_variances[task].clamp(-5.0, 5.0)
            total = total + torch.exp(-s) * loss + 0.5 * s
        return total


def losses_of(outputs, batch):
    return {
        "color": F.cross_entropy(outputs["color"], batch["color"]),
        "kind": F.cross_entropy(outputs["kind"], batch["kind"]),
        "box": F.smooth_l1_loss(outputs["box"], batch["box"], beta=0.1),
    }


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    sums = {"color": 0, "kind": 0, "box": 0.0}
    count = 0
    for batch in loader:
        outputs = model(batch["image"])
        for name in ("color", "kind"):
            sums[name] += (outputs[name].argmax(1) == batch[name]).sum().item()
        sums["box"] += (outputs["box"] - batch["box"]).abs().mean(1).sum().item()
        count += len(batch["image"])
    return {name: value / count for name, value in sums.items()}


def main(epochs=14):
    torch.manual_seed(7)
    train_loader = DataLoader(ShapeTasks(True), batch_size=32, shuffle=True)
    val_loader = DataLoader(ShapeTasks(False), batch_size=100)
    model = MultiTaskNet()
    weighting = UncertaintyWeighting(["color", "kind", "box"])
    optimizer = torch.optim.Adam(
        [
            {"params": model.parameters(), "lr": 2e-3},
            {"params": weighting.parameters(), "lr": 5e-3},
        ]
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.4)
    for epoch in range(epochs):
        model.train()
        for batch in train_loader:
            losses = losses_of(model(batch["image"]), batch)
            loss = weighting(losses)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        scores = evaluate(model, val_loader)
        weights = {name: round(float(torch.exp(-s.detach())), 2) for name, s in weighting.log_variances.items()}
        print(
            f"epoch {epoch + 1:2d}: color {scores['color']:.3f}, kind {scores['kind']:.3f}, "
            f"box off by {scores['box']:.4f}; weights {weights}"
        )


if __name__ == "__main__":
    main()
