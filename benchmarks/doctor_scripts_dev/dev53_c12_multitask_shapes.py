"""What, where and which pixels: one network with three heads for colored shapes."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

TASKS = ["name", "mask", "box"]


class ShapesMultiTask(Dataset):
    def __init__(self, train):
        self.shapes = Shapes(train=train)
        self.flip = train

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, name = self.shapes[index]
        mask, box = self.shapes.masks[index], self.shapes.boxes[index]
        if self.flip and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
            x1, y1, x2, y2 = box.unbind()
            box = torch.stack([1 - x2, y1, 1 - x1, y2])
        return {"image": (image - 0.5) / 0.25, "name": name, "mask": mask, "box": box}


def block(n_in, n_out):
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())


class MultiTaskNet(nn.Module):
    def __init__(self, width=16, n_name=6, n_kind=4):
        super().__init__()
        self.down1 = block(3, width)
        self.down2 = block(width, 2 * width)
        self.down3 = block(2 * width, 2 * width)
        self.pool = nn.MaxPool2d(2)
        self.up2 = block(4 * width, 2 * width)
        self.up1 = block(3 * width, width)
        self.mask_head = nn.Conv2d(width, n_kind, 1)
        self.name_head = nn.Linear(2 * width * 16, n_name)
        self.box_head = nn.Sequential(nn.Linear(2 * width * 16, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.down3(self.pool(b))
        up = self.up2(torch.cat([F.interpolate(c, scale_factor=2), b], 1))
        up = self.up1(torch.cat([F.interpolate(up, scale_factor=2), a], 1))
        code = c.flatten(1)
        return {"name": self.name_head(code), "mask": self.mask_head(up), "box": self.box_head(code)}


class MultiTaskLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.tensor([1.0, 1.0, 5.0]))

    def forward(self, outputs, batch):
        losses = torch.stack(
            [
                F.cross_entropy(outputs["name"], batch["name"]),
                F.cross_entropy(outputs["mask"], batch["mask"]),
                F.l1_loss(outputs["box"], batch["box"]),
            ]
        )
        return (self.weights * losses).sum(), losses.detach()


def box_iou(a, b):
    top_left, bottom_right = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).clamp(min=0).prod(1) for box in (a, b)]
    return overlap / (areas[0] + areas[1] - overlap)


@torch.no_grad()
def evaluate(model, loader, device, n_kind=4):
    model.eval()
    correct, iou, n = 0, 0.0, 0
    confusion = torch.zeros(n_kind, n_kind)
    for batch in loader:
        batch = {key: value.to(device) for key, value in batch.items()}
        outputs = model(batch["image"])
        correct += (outputs["name"].argmax(1) == batch["name"]).sum().item()
        iou += box_iou(outputs["box"], batch["box"]).sum().item()
        pairs = batch["mask"] * n_kind + outputs["mask"].argmax(1)
        confusion += torch.bincount(pairs.flatten(), minlength=n_kind**2).view(n_kind, n_kind).cpu()
        n += len(batch["name"])
    hit = confusion.diag()
    mean_iou = (hit / (confusion.sum(0) + confusion.sum(1) - hit)).mean().item()
    return {"accuracy": correct / n, "mask iou": mean_iou, "box iou": iou / n}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=45)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    train_loader = DataLoader(ShapesMultiTask(True), args.batch_size, shuffle=True)
    valid_loader = DataLoader(ShapesMultiTask(False), 120)
    model = MultiTaskNet().to(device)
    criterion = MultiTaskLoss().to(device)
    optimizer = torch.optim.Adam([{"params": model.parameters()}], lr=args.lr)
    total = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total, eta_min=args.lr / 30)

    for epoch in range(1, args.epochs + 1):
        model.train()
        parts = torch.zeros(len(TASKS), device=device)
        for batch in train_loader:
            batch = {key: value.to(device) for key, value in batch.items()}
            loss, losses = criterion(model(batch["image"]), batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            parts += losses
        means = dict(zip(TASKS, (parts / len(train_loader)).tolist()))
        scores = evaluate(model, valid_loader, device)
        print(f"epoch {epoch:2d}", *(f" {key} {value:.3f}" for key, value in {**means, **scores}.items()))


if __name__ == "__main__":
    main()
