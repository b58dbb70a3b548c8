# Self-supervised pretraining (SimCLR) and fine-tuning with few labels, both with Accelerate.
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, TensorDataset

import toydata

config = {
    "seed": 17, "pretrain_epochs": 5, "pretrain_batch": 100, "pretrain_lr": 2e-3, "temperature": 0.3,
    "labeled": 360, "finetune_epochs": 14, "finetune_batch": 40, "finetune_lr": 0.03,
}


def load_arrays(train):
    """As an image folder is read: uint8 arrays (N, height, width, 3) and the names of the folders."""
    shapes = toydata.Shapes(train=train)
    pixels = np.stack([(image.numpy().transpose(1, 2, 0) * 255).astype(np.uint8) for image in shapes.images])
    return pixels, shapes.names


def to_tensors(pixels):
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return (images.float() / 255 - 0.5) / 0.2


def encode_labels(names):
    classes = sorted(set(names))
    index = {name: i for i, name in enumerate(classes)}
    return torch.tensor([index[name] for name in names]), classes


def block(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2)
    )


class Encoder(nn.Module):
    dim = 64

    def __init__(self):
        super().__init__()
        self.block1 = block(3, 16)
        self.block2 = block(16, 32)
        self.block3 = block(32, self.dim)

    def forward(self, x):
        return self.block3(self.block2(self.block1(x))).amax(dim=(2, 3))


class SimCLR(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.projector = nn.Sequential(nn.Linear(Encoder.dim, 64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, x):
        return F.normalize(self.projector(self.encoder(x)), dim=1)


class Classifier(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.encoder = Encoder()
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(Encoder.dim, n_classes)

    def forward(self, x):
        return self.fc(self.dropout(self.encoder(x)))


def two_views(x):
    views = []
    for _ in range(2):
        view = torch.stack([torch.roll(image, torch.randint(-3, 4, (2,)).tolist(), (1, 2)) for image in x])
        mirrored = torch.rand(len(x)) < 0.5
        view = torch.where(mirrored[:, None, None, None], view.flip(3), view)
        view = view * (0.8 + 0.4 * torch.rand(len(x), 1, 1, 1)) + 0.1 * torch.randn_like(view)
        views.append(view)
    return torch.cat(views)


def nt_xent(z, temperature):
    n = len(z) // 2
    similarity = z @ z.t() / temperature
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool), -1e9)
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(similarity, partner)


def pretrain(accelerator, images, path):
    loader = DataLoader(TensorDataset(images), config["pretrain_batch"], shuffle=True, drop_last=True)
    model = SimCLR()
    optimizer = torch.optim.Adam(model.parameters(), lr=config["pretrain_lr"])
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for epoch in range(config["pretrain_epochs"]):
        losses = []
        for (x,) in loader:
            loss = nt_xent(model(two_views(x)), config["temperature"])
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            losses.append(loss.detach())
        accelerator.print(f"pretrain {epoch}: {torch.stack(losses).mean():.3f}")
    torch.save(accelerator.unwrap_model(model).encoder.state_dict(), path)


def evaluate(accelerator, model, loader):
    model.eval()
    right, count = 0, 0
    for x, y in loader:
        with torch.no_grad():
            guess = model(x).argmax(dim=-1)
        guess, y = accelerator.gather_for_metrics((guess, y))
        right += (guess == y).sum().item()
        count += len(y)
    return right / count


def main():
    set_seed(config["seed"])
    accelerator = Accelerator(cpu=True)
    pixels, names = load_arrays(train=True)
    train_x, (train_y, classes) = to_tensors(pixels), encode_labels(names)
    test_pixels, test_names = load_arrays(train=False)
    test_x, (test_y, _) = to_tensors(test_pixels), encode_labels(test_names)

    model = Classifier(len(classes))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "encoder.pt")
        pretrain(accelerator, train_x, path)
        model.encoder.load_state_dict(torch.load(path))

    few = config["labeled"]
    loader = DataLoader(TensorDataset(train_x[:few], train_y[:few]), config["finetune_batch"], shuffle=True)
    test_loader = DataLoader(TensorDataset(test_x, test_y), 80)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["finetune_lr"], momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["finetune_epochs"] * len(loader))
    model, optimizer, loader, test_loader = accelerator.prepare(model, optimizer, loader, test_loader)
    for epoch in range(config["finetune_epochs"]):
        model.train()
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
        accuracy = evaluate(accelerator, model, test_loader)
        accelerator.print(f"finetune {epoch}: loss {loss.item():.3f} test accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
