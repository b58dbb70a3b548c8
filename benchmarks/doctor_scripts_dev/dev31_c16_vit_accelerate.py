"""A small vision transformer trained with Accelerate, in the way of its cv_example."""

import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes


class PatchEmbed(nn.Module):
    """Two strided convolutions in place of one patch of 4 x 4: they train easier on little data."""

    def __init__(self, dim, tokens=16):
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(3, 32, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, dim, kernel_size=3, stride=2, padding=1),
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens + 1, dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x):
        x = self.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        return x + self.pos_embed


class ViT(nn.Module):
    def __init__(self, classes, dim=64, depth=3, heads=4):
        super().__init__()
        self.embed = PatchEmbed(dim=dim)
        layer = nn.TransformerEncoderLayer(
            dim, heads, dim_feedforward=2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.norm(self.blocks(self.embed(x)))
        return self.head(x[:, 0])


def train_transform(image):
    if torch.rand(()) < 0.5:
        image = image.flip(-1)
    if torch.rand(()) < 0.5:
        image = image.flip(-2)
    return eval_transform(image)


def eval_transform(image):
    return (image - 0.5) / 0.25


def training_function(config):
    accelerator = Accelerator(cpu=True)
    set_seed(config["seed"])
    train_dataset = Shapes(train=True, count=1600, transform=train_transform)
    eval_dataset = Shapes(train=False, transform=eval_transform)
    train_dataloader = DataLoader(train_dataset, shuffle=True, batch_size=config["batch_size"])
    eval_dataloader = DataLoader(eval_dataset, shuffle=False, batch_size=80)

    model = ViT(len(NAMES))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.01)
    lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer=optimizer,
        max_lr=config["lr"],
        epochs=config["num_epochs"],
        steps_per_epoch=len(train_dataloader),
        pct_start=0.15,
    )
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )

    for epoch in range(config["num_epochs"]):
        model.train()
        total_loss = 0.0
        for inputs, targets in train_dataloader:
            outputs = model(inputs)
            loss = criterion(outputs, targets)
            total_loss += loss.detach().float()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
        model.eval()
        accurate = 0
        num_elems = 0
        for inputs, targets in eval_dataloader:
            with torch.no_grad():
                outputs = model(inputs)
            predictions = outputs.argmax(dim=-1)
            predictions, references = accelerator.gather_for_metrics((predictions, targets))
            accurate_preds = predictions == references
            num_elems += accurate_preds.shape[0]
            accurate += accurate_preds.long().sum()
        eval_metric = accurate.item() / num_elems
        accelerator.print(
            f"epoch {epoch}: train loss {total_loss.item() / len(train_dataloader):.3f} accuracy {100 * eval_metric:.2f}"
        )
    accelerator.end_training()


def main():
    torch.set_num_threads(1)
    config = {"lr": 2e-3, "num_epochs": 22, "seed": 42, "batch_size": 32}
    training_function(config)


if __name__ == "__main__":
    main()
