"""Adversarial training: half of each loss is on inputs moved a little to where the network errs most."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes

EPSILON = 0.06


class Scaled(nn.Module):
    """Images come as 0 to 1, so that the attack has its natural limits; the network scales them itself."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network((images - 0.5) / 0.25)


def network():
    def block(a, b, stride=2):
        return [nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.1)]

    return nn.Sequential(
        *block(3, 16, 1), *block(16, 32), *block(32, 64), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 16, len(NAMES))
    )


def attack(model, images, labels, steps):
    """Projected gradient ascent in evaluation mode; the gradients are those of the inputs alone."""
    was_training = model.training
    model.eval()
    delta = torch.empty_like(images).uniform_(-EPSILON, EPSILON)
    with torch.enable_grad():
        for _ in range(steps):
            delta.requires_grad_(True)
            loss = F.cross_entropy(model((images + delta).clamp(0, 1)), labels)
            (slope,) = torch.autograd.grad(loss, delta)
            delta = (delta.detach() + 1.5 * EPSILON / steps * slope.sign()).clamp(-EPSILON, EPSILON)
    model.train(was_training)
    return (images + delta).clamp(0, 1).detach()


def evaluate(model, loader):
    model.eval()
    clean = robust = total = 0
    for images, labels in loader:
        moved = attack(model, images, labels, steps=5)
        with torch.no_grad():
            clean += (model(images).argmax(1) == labels).sum().item()
            robust += (model(moved).argmax(1) == labels).sum().item()
        total += len(labels)
    return clean / total, robust / total


def train(model, loader, optimizer, scheduler, share):
    model.train()
    losses = []
    for images, labels in loader:
        if torch.rand(()) < 0.5:
            images = images.flip(3)
        moved = attack(model, images, labels, steps=2)
        optimizer.zero_grad()
        outputs, moved_outputs = model(torch.cat([images, moved])).chunk(2)
        loss = (1 - share) * F.cross_entropy(outputs, labels) + share * F.cross_entropy(moved_outputs, labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def main(epochs=22):
    torch.manual_seed(4)
    torch.set_num_threads(1)
    train_loader = DataLoader(Shapes(train=True), batch_size=45, shuffle=True)
    valid_loader = DataLoader(Shapes(train=False), batch_size=60)
    model = Scaled(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=epochs * len(train_loader))
    for epoch in range(epochs):
        loss = train(model, train_loader, optimizer, scheduler, share=0.5)
        clean, robust = evaluate(model, valid_loader)
        print(f"epoch {epoch + 1}/{epochs} loss {loss:.4f} clean accuracy {clean:.3f} robust accuracy {robust:.3f}")


main()
