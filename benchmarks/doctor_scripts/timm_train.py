import copy
import math

import torch
import torch.nn as nn
from torch.utils.data import DataLoader
from toydata import Shapes


class ModelEma:
    def __init__(self, model, decay=0.9):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            ema_v.copy_(self.decay * ema_v + (1.0 - self.decay) * model_v)


def create_model(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.SiLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, lr_schedule, model_ema, accum_steps=2, clip_grad=5.0):
    model.train()
    optimizer.zero_grad()
    num_updates = epoch * (len(loader) // accum_steps)
    for batch_idx, (input, target) in enumerate(loader):
        output = model(input)
        loss = loss_fn(output, target)
        (loss / accum_steps).backward()
        if (batch_idx + 1) % accum_steps == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_grad)
            for group in optimizer.param_groups:
                group["lr"] = lr_schedule(num_updates)
            optimizer.step()
            optimizer.zero_grad()
            num_updates += 1
            model_ema.update(model)
    print(f"Train: {epoch} loss {loss.item():.3f}")


@torch.no_grad()
def validate(model, loader):
    model.eval()
    correct = total = 0
    for input, target in loader:
        correct += (model(input).argmax(1) == target).sum().item()
        total += target.size(0)
    return 100 * correct / total


def main(epochs=6, lr=0.1, batch_size=16, accum_steps=2):
    torch.manual_seed(42)
    model = create_model(6)
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decay, "weight_decay": 2e-5}, {"params": no_decay, "weight_decay": 0.0}],
        lr=lr,
        momentum=0.9,
        nesterov=True,
    )
    loader_train = DataLoader(Shapes(train=True), batch_size=batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Shapes(train=False), batch_size=64)
    updates = epochs * (len(loader_train) // accum_steps)
    warmup = 20

    def lr_schedule(update):
        if update < warmup:
            return lr * (update + 1) / warmup
        return lr * 0.5 * (1 + math.cos(math.pi * min(update, updates) / updates))

    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
    model_ema = ModelEma(model)
    for epoch in range(epochs):
        train_one_epoch(epoch, model, loader_train, optimizer, loss_fn, lr_schedule, model_ema, accum_steps)
        print(f"Test: {epoch} acc1 {validate(model_ema.module, loader_eval):.2f}")


if __name__ == "__main__":
    main()
