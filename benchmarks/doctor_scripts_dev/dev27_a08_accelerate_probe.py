"""Sort parcels into five bays by the digit on them: a backbone trained on clean digits, a new head, with Accelerate."""

import argparse
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Subset, TensorDataset

from toydata import draw_digits


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.fc = nn.Linear(32 * 16, 64)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return F.relu(self.fc(x.flatten(1)))


class Classifier(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.head(self.backbone(x))


def prepare(images):
    return (images.float() / 255 - 0.24) / 0.32


def pretrain(path, epochs=8):
    """What another team did on other digits; they trained in parallel, so the names begin with "module."."""
    images, digits = draw_digits(2000, seed=50, noise=0.2)
    loader = DataLoader(TensorDataset(prepare(images), digits), batch_size=50, shuffle=True)
    net = Classifier(10)
    opt = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(epochs):
        net.train()
        for x, y in loader:
            opt.zero_grad()
            F.cross_entropy(net(x), y).backward()
            opt.step()
    torch.save({"state_dict": {"module." + k: v for k, v in net.state_dict().items()}, "epochs": epochs}, path)


def get_loaders(batch_size):
    images, digits = draw_digits(900, seed=60, noise=0.25)
    bays = digits % 5
    order = bays.argsort(stable=True)  # one folder after the other
    data = TensorDataset(prepare(images)[order], bays[order])
    indices = torch.randperm(len(data), generator=torch.Generator().manual_seed(9)).tolist()
    val_set, train_set = Subset(data, indices[:200]), Subset(data, indices[200:])
    return DataLoader(train_set, batch_size=batch_size, shuffle=True), DataLoader(val_set, batch_size=100)


def build_model(path):
    model = Classifier(10)
    checkpoint = torch.load(path, map_location="cpu")
    state = {k.removeprefix("module."): v for k, v in checkpoint["state_dict"].items()}
    result = model.load_state_dict(state, strict=False)
    print("loaded", path, "epochs:", checkpoint["epochs"], "missing:", len(result.missing_keys))
    for parameter in model.backbone.parameters():
        parameter.requires_grad = False
    return model


def training_function(args):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.accumulate)
    set_seed(args.seed)
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "digits.pt")
        pretrain(path)
        model = build_model(path)

    model.head = nn.Linear(64, 5)
    optimizer = torch.optim.AdamW(model.head.parameters(), lr=args.lr, weight_decay=1e-3)
    train_loader, val_loader = get_loaders(args.batch_size)
    model, optimizer, train_loader, val_loader = accelerator.prepare(model, optimizer, train_loader, val_loader)

    for epoch in range(args.epochs):
        model.train()
        model.backbone.eval()  # the statistics of batch norm stay as they were learned
        total = 0.0
        for x, y in train_loader:
            with accelerator.accumulate(model):
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                optimizer.zero_grad()
            total += loss.detach().item()

        model.eval()
        correct = count = 0
        for x, y in val_loader:
            with torch.no_grad():
                logits = model(x)
            predictions, references = accelerator.gather_for_metrics((logits.argmax(dim=-1), y))
            correct += (predictions == references).sum().item()
            count += len(references)
        accelerator.print(f"epoch {epoch}: loss {total / len(train_loader):.4f} accuracy {correct / count:.4f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=20)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=11)
    training_function(parser.parse_args())


if __name__ == "__main__":
    main()
