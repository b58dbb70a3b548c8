"""Transfer learning after the PyTorch tutorial: pretrain on generated shapes, then fine-tune on a small fruit-like set."""
import argparse
import copy
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from PIL import Image, ImageDraw
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset

SHAPES = ["disc", "box", "wedge", "plus", "ring"]
CLASSES = ["unripe_disc", "ripe_disc", "unripe_wedge", "ripe_wedge"]
MEAN, STD = (0.42, 0.45, 0.36), (0.19, 0.19, 0.18)


def draw(shape, colour, rng, size=24):
    background = tuple(int(v) for v in rng.integers(40, 170, 3))
    img = Image.new("RGB", (size, size), background)
    d = ImageDraw.Draw(img)
    r = int(rng.integers(5, 8))
    cx, cy = (int(v) for v in rng.integers(r + 1, size - r - 1, 2))
    box = [cx - r, cy - r, cx + r, cy + r]
    if shape == "disc":
        d.ellipse(box, fill=colour)
    elif shape == "box":
        d.rectangle(box, fill=colour)
    elif shape == "wedge":
        d.polygon([(cx, cy - r), (cx - r, cy + r), (cx + r, cy + r)], fill=colour)
    elif shape == "plus":
        d.rectangle([cx - r, cy - 2, cx + r, cy + 2], fill=colour)
        d.rectangle([cx - 2, cy - r, cx + 2, cy + r], fill=colour)
    else:
        d.ellipse(box, outline=colour, width=2)
    noisy = np.asarray(img, dtype=np.float32) + rng.normal(0, 18, (size, size, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def make_shapes(n, rng):
    shapes = [SHAPES[k % len(SHAPES)] for k in range(n)]
    return [(draw(shape, tuple(int(v) for v in rng.integers(0, 256, 3)), rng), shape) for shape in shapes]


def make_fruit(per_class, rng):
    samples = []
    for name in CLASSES:
        for _ in range(per_class):
            strong, weak, blue = (int(rng.integers(lo, hi)) for lo, hi in [(140, 250), (50, 150), (0, 130)])
            colour = (strong, weak, blue) if name.startswith("ripe") else (weak, strong, blue)
            samples.append((draw(name.split("_")[1], colour, rng), name))
    return samples


def to_tensor(img):
    return torch.from_numpy(np.ascontiguousarray(img.transpose(2, 0, 1))).float() / 255.0


def normalize(x):
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def random_flip(x):
    return torch.flip(x, [2]) if torch.rand(1) < 0.5 else x


def random_crop(x, pad=2):
    i, j = torch.randint(0, 2 * pad + 1, (2,)).tolist()
    return nn.functional.pad(x[None], [pad] * 4, mode="replicate")[0, :, i:i + x.shape[1], j:j + x.shape[2]]


data_transforms = {
    "train": lambda img: normalize(random_flip(random_crop(to_tensor(img)))),
    "val": lambda img: normalize(to_tensor(img)),
}


class PictureFolder(Dataset):
    def __init__(self, samples, transform):
        self.samples, self.transform = samples, transform
        self.classes = sorted({name for _, name in samples})
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        img, name = self.samples[i]
        return self.transform(img), self.class_to_idx[name]


class SmallNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()

        def stage(cin, cout):
            return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))

        self.features = nn.Sequential(stage(3, 16), stage(16, 32), stage(32, 64))
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(64 * 9, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, num_classes))

    def forward(self, x):
        return self.fc(self.features(x))


def train_model(model, criterion, optimizer, scheduler, dataloaders, num_epochs, tag):
    scaler = torch.amp.GradScaler("cpu")
    best_model_wts, best_acc = copy.deepcopy(model.state_dict()), 0.0
    dataset_sizes = {phase: len(dl.dataset) for phase, dl in dataloaders.items()}
    for epoch in range(num_epochs):
        for phase in ["train", "val"]:
            model.train() if phase == "train" else model.eval()
            running_loss, running_corrects = 0.0, 0
            for inputs, labels in dataloaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    with torch.autocast("cpu", dtype=torch.bfloat16):
                        outputs = model(inputs)
                        loss = criterion(outputs, labels)
                    _, preds = torch.max(outputs, 1)
                    if phase == "train":
                        scaler.scale(loss).backward()
                        scaler.unscale_(optimizer)
                        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
                        scaler.step(optimizer)
                        scaler.update()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels).item()
            if phase == "train":
                scheduler.step()
            epoch_loss = running_loss / dataset_sizes[phase]
            epoch_acc = running_corrects / dataset_sizes[phase]
            print(f"[{tag}] {epoch + 1}/{num_epochs} {phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")
            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                best_model_wts = copy.deepcopy(model.state_dict())
    print(f"{tag} complete, best val Acc: {best_acc:4f}")
    model.load_state_dict(best_model_wts)
    return model, best_acc


def set_requires_grad(module, flag):
    for param in module.parameters():
        param.requires_grad = flag


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pretrain-epochs", type=int, default=4)
    parser.add_argument("--head-epochs", type=int, default=3)
    parser.add_argument("--finetune-epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    def loaders(train, val, batch_size):
        return {"train": DataLoader(PictureFolder(train, data_transforms["train"]), batch_size, shuffle=True),
                "val": DataLoader(PictureFolder(val, data_transforms["val"]), batch_size)}

    # --- phase one: pretraining, kept as a checkpoint
    ckpt_path = os.path.join(tempfile.mkdtemp(prefix="transfer_"), "shapes.pth")
    model = SmallNet(len(SHAPES))
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.pretrain_epochs)
    dataloaders = loaders(make_shapes(1800, rng), make_shapes(300, rng), 64)
    model, _ = train_model(model, nn.CrossEntropyLoss(), optimizer, scheduler, dataloaders, args.pretrain_epochs, "pretrain")
    torch.save({"state_dict": model.state_dict(), "classes": SHAPES}, ckpt_path)

    # --- phase two: new head on the frozen features, then everything with a smaller rate
    model_ft = SmallNet(len(CLASSES))
    backbone = {k: v for k, v in torch.load(ckpt_path)["state_dict"].items() if k.startswith("features.")}
    missing, unexpected = model_ft.load_state_dict(backbone, strict=False)
    print(f"loaded {len(backbone) - len(unexpected)} tensors, new: {len(missing)}")
    dataloaders = loaders(make_fruit(60, rng), make_fruit(75, rng), 16)
    criterion = nn.CrossEntropyLoss()

    set_requires_grad(model_ft.features, False)
    optimizer_conv = optim.SGD(model_ft.fc.parameters(), lr=0.02, momentum=0.9)
    exp_lr_scheduler = lr_scheduler.StepLR(optimizer_conv, step_size=2, gamma=0.3)
    model_ft, head_acc = train_model(model_ft, criterion, optimizer_conv, exp_lr_scheduler, dataloaders, args.head_epochs, "head")

    set_requires_grad(model_ft.features, True)
    optimizer_ft = optim.SGD([{"params": model_ft.features.parameters(), "lr": 0.01},
                              {"params": model_ft.fc.parameters(), "lr": 0.02}], momentum=0.9, weight_decay=1e-4)
    exp_lr_scheduler = lr_scheduler.StepLR(optimizer_ft, step_size=3, gamma=0.3)
    model_ft, acc = train_model(model_ft, criterion, optimizer_ft, exp_lr_scheduler, dataloaders, args.finetune_epochs, "finetune")

    held_out = DataLoader(PictureFolder(make_fruit(150, rng), data_transforms["val"]), 100)
    model_ft.eval()
    with torch.no_grad():
        correct = sum((model_ft(x).argmax(1) == y).sum().item() for x, y in held_out)
    print(f"val after head {head_acc:.4f} val after finetune {acc:.4f} new pictures {correct / len(held_out.dataset):.4f}")


if __name__ == "__main__":
    main()
