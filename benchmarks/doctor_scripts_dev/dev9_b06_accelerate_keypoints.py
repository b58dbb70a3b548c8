"""Corner regression on colored shapes with an Accelerate loop: two points a picture, PCK as the metric."""
import math

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

MEAN, STD = torch.tensor([0.48, 0.45, 0.5]), torch.tensor([0.17, 0.12, 0.17])
SIZE = 24


class CornerDataset(Dataset):
    """Top left and bottom right corners, as fractions of the width."""

    def __init__(self, train):
        self.base, self.train = Shapes(train=train, size=SIZE), train

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, _ = self.base[index]
        x0, y0, x1, y1 = self.base.boxes[index].tolist()
        if self.train and torch.rand(()) < 0.5:
            image = image.flip(-1)
            x0, x1 = 1 - x1, 1 - x0
        image = (image - MEAN[:, None, None]) / STD[:, None, None]
        return {"pixel_values": image, "points": torch.tensor([[x0, y0], [x1, y1]])}


def conv_bn(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class CornerNet(nn.Module):
    """Heatmaps whose expectation is the coordinate (soft argmax)."""

    def __init__(self, points=2, width=16):
        super().__init__()
        self.body = nn.Sequential(conv_bn(3, width), conv_bn(width, 2 * width, 2), conv_bn(2 * width, 2 * width),
                                  conv_bn(2 * width, 2 * width), conv_bn(2 * width, 2 * width))
        self.head = nn.Conv2d(2 * width, points, 1)
        self.log_scale = nn.Parameter(torch.zeros(()))
        axis = (torch.arange(SIZE // 2) + 0.5) / (SIZE // 2)
        self.register_buffer("axis", axis)
        self.offset = nn.Parameter(torch.zeros(points, 2))

    def forward(self, pixel_values, points=None):
        maps = self.head(self.body(pixel_values)) * self.log_scale.exp()
        n, k, h, w = maps.shape
        prob = maps.flatten(2).softmax(-1).view(n, k, h, w)
        x = (prob.sum(2) * self.axis).sum(-1)
        y = (prob.sum(3) * self.axis).sum(-1)
        predicted = torch.stack([x, y], dim=-1) + self.offset
        loss = F.smooth_l1_loss(predicted, points, beta=0.05) if points is not None else None
        return {"loss": loss, "points": predicted}


def parameter_groups(model, weight_decay):
    decay, rest = [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            target = decay if isinstance(module, nn.Conv2d) and name == "weight" else rest
            target.append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def training_function(config):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=config["accumulate"])
    set_seed(config["seed"])
    train_loader = DataLoader(CornerDataset(True), batch_size=config["batch_size"], shuffle=True, drop_last=True)
    eval_loader = DataLoader(CornerDataset(False), batch_size=2 * config["batch_size"])
    model = CornerNet()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), lr=config["lr"])
    steps = config["epochs"] * len(train_loader) // config["accumulate"]
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / 10, 0.5 * (1 + math.cos(math.pi * min(1, s / steps)))))
    model, optimizer, train_loader, eval_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, eval_loader, scheduler)
    for epoch in range(config["epochs"]):
        model.train()
        total_loss = 0.0
        for step, batch in enumerate(train_loader):
            with accelerator.accumulate(model):
                outputs = model(**batch)
                accelerator.backward(outputs["loss"])
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total_loss += outputs["loss"].detach().float()
        model.eval()
        distances = []
        for batch in eval_loader:
            with torch.no_grad():
                predicted = model(batch["pixel_values"])["points"]
            predicted, reference = accelerator.gather_for_metrics((predicted, batch["points"]))
            distances.append((predicted - reference).norm(dim=-1) * SIZE)
        distances = torch.cat(distances)
        pck = (distances < 1.5).float().mean().item()
        accelerator.print(f"epoch {epoch}: loss {total_loss.item() / len(train_loader):.4f} "
                          f"pck@1.5px {pck:.3f} mean distance {distances.mean().item():.2f}px")
    accelerator.end_training()


if __name__ == "__main__":
    training_function({"lr": 5e-3, "epochs": 7, "batch_size": 16, "accumulate": 2, "seed": 7})
