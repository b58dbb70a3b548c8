"""Transfer learning: a backbone learns digits, is saved and loaded, then serves shapes: first frozen, then fine-tuned with
a smaller rate for its layers than for the new head."""

import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes, draw_digits


def build_backbone():
    layers, channels = [], 3
    for width, stride in ((24, 1), (48, 2), (64, 2)):
        layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.GroupNorm(8, width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())


class Classifier(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = build_backbone()
        self.fc = nn.Linear(64 * 4, classes)

    def forward(self, images):
        return self.fc(self.backbone(images))


def colored_digits(count, seed):
    """Digits in random colors on gray, so that the first layer meets colors."""
    images, labels = draw_digits(count, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1000)
    colors = torch.rand(count, 3, 1, 1, generator=generator)
    ink = images.float() / 255
    pictures = 0.5 * (1 - ink) + colors * ink
    # a color too close to the ground would hide its digit
    clear = (colors - 0.5).abs().amax(dim=(1, 2, 3)) > 0.25
    return TensorDataset(pictures[clear].sub(0.5).div(0.2), labels[clear])


def shapes(train, count):
    data = Shapes(train=train, count=count)
    return TensorDataset(torch.stack(data.images).sub(0.5).div(0.2), torch.tensor(data.targets))


def run_epoch(model, loader, optimizer=None):
    training = optimizer is not None
    model.train(training)
    loss_sum, hits = torch.zeros(()), torch.zeros(())
    with torch.set_grad_enabled(training):
        for images, labels in loader:
            logits = model(images)
            loss = nn.functional.cross_entropy(logits, labels)
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            loss_sum += loss.detach() * len(labels)
            hits += (logits.detach().argmax(1) == labels).sum()
    return loss_sum.item() / len(loader.dataset), hits.item() / len(loader.dataset)


def stage(name, model, loaders, optimizer, epochs):
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(1, epochs + 1):
        train_loss, train_accuracy = run_epoch(model, loaders[0], optimizer)
        scheduler.step()
        val_loss, val_accuracy = run_epoch(model, loaders[1])
        print(
            f"{name:<9} {epoch}  train {train_loss:.3f}/{train_accuracy:.3f}  val {val_loss:.3f}/{val_accuracy:.3f}"
        )


def loaders_of(train, val):
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(val, batch_size=256)


def main():
    torch.manual_seed(11)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backbone.pt"
        source = Classifier(10)
        loaders = loaders_of(colored_digits(4000, 21), colored_digits(600, 22))
        stage("pretrain", source, loaders, torch.optim.AdamW(source.parameters(), lr=2e-3), epochs=10)
        torch.save(source.backbone.state_dict(), path)

        model = Classifier(6)
        model.backbone.load_state_dict(torch.load(path, weights_only=True))

    loaders = loaders_of(shapes(True, 2000), shapes(False, 400))
    model.backbone.requires_grad_(False)
    stage("frozen", model, loaders, torch.optim.AdamW(model.fc.parameters(), lr=3e-3), epochs=4)

    model.backbone.requires_grad_(True)
    groups = [
        {"params": model.backbone.parameters(), "lr": 1.5e-3},
        {"params": model.fc.parameters(), "lr": 3e-3},
    ]
    stage("finetune", model, loaders, torch.optim.AdamW(groups), epochs=12)


if __name__ == "__main__":
    main()
