"""
Transfer learning tutorial: pretrain a small CNN on digits, then recognize letters from few pictures,
first with the backbone frozen, then fine-tuning all of it.
"""
import copy
import os
import tempfile
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

LETTERS = {"A": "25755", "C": "74447", "E": "74647", "F": "74644", "H": "55755", "L": "44447", "P": "75744", "U": "55557"}
device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
torch.manual_seed(0)


def draw_letters(count, size=16, seed=0, noise=0.35):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(LETTERS), (count,), generator=g)
    images = torch.zeros(count, 1, size, size)
    for i, label in enumerate(labels.tolist()):
        rows = list(LETTERS.values())[label]
        glyph = torch.tensor([[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in rows]).float()
        top, left = torch.randint(1, 6, (1,), generator=g).item(), torch.randint(2, 8, (1,), generator=g).item()
        images[i, 0, top:top + 10, left:left + 6] = glyph.repeat_interleave(2, 0).repeat_interleave(2, 1)
    images = images + noise * torch.randn(images.shape, generator=g)
    return (images.clamp(0, 1) * 255).to(torch.uint8), labels


class ImageSet(Dataset):
    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.labels[index]


def normalize(image):
    return (image.float() / 255 - 0.25) / 0.32


def random_brightness(image):
    return normalize(image) * (0.8 + 0.4 * torch.rand(()))


data_transforms = {"train": random_brightness, "val": normalize}


class SmallNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        layers, channels = [], 1
        for width in (16, 32, 64):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                       nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(64 * 2 * 2, num_classes)

    def forward(self, x):
        return self.fc(self.dropout(self.features(x).flatten(1)))


def train_model(model, dataloaders, criterion, optimizer, num_epochs):
    since = time.time()
    best_model_wts, best_acc = copy.deepcopy(model.state_dict()), 0.0
    for epoch in range(num_epochs):
        for phase in ["train", "val"]:
            if phase == "train":
                model.train()
            else:
                model.eval()
            running_loss, running_corrects = 0.0, 0
            for inputs, labels in dataloaders[phase]:
                inputs, labels = inputs.to(device), labels.to(device)
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels.data).item()
            epoch_loss = running_loss / len(dataloaders[phase].dataset)
            epoch_acc = running_corrects / len(dataloaders[phase].dataset)
            print(f"Epoch {epoch}/{num_epochs - 1} {phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")
            if phase == "val" and epoch_acc > best_acc:
                best_acc, best_model_wts = epoch_acc, copy.deepcopy(model.state_dict())
    print(f"Training complete in {time.time() - since:.0f}s, best val Acc: {best_acc:.4f}")
    model.load_state_dict(best_model_wts)
    return model


def loaders(train, val, batch_size):
    datasets = {"train": ImageSet(*train, data_transforms["train"]), "val": ImageSet(*val, data_transforms["val"])}
    return {x: DataLoader(datasets[x], batch_size=batch_size, shuffle=(x == "train")) for x in ["train", "val"]}


def main():
    criterion = nn.CrossEntropyLoss()
    path = os.path.join(tempfile.mkdtemp(), "digits.pth")

    # pretraining on the large set
    digits = loaders(draw_digits(2000, noise=0.35, seed=0), draw_digits(400, noise=0.35, seed=1), batch_size=64)
    pretrained = SmallNet(num_classes=10).to(device)
    train_model(pretrained, digits, criterion, optim.Adam(pretrained.parameters(), lr=2e-3), num_epochs=6)
    torch.save({"epoch": 6, "state_dict": pretrained.state_dict()}, path)

    # the new task: few pictures of letters
    letters = loaders(draw_letters(480, seed=2), draw_letters(400, seed=3), batch_size=32)
    model = SmallNet(num_classes=len(LETTERS)).to(device)
    checkpoint = torch.load(path)
    weights = {k: v for k, v in checkpoint["state_dict"].items() if not k.startswith("fc.")}
    model.load_state_dict(weights, strict=False)

    # 1. the network as a fixed feature extractor
    for param in model.features.parameters():
        param.requires_grad = False
    optimizer = optim.Adam(model.fc.parameters(), lr=5e-3)
    train_model(model, letters, criterion, optimizer, num_epochs=8)

    # 2. fine-tuning all layers
    for param in model.features.parameters():
        param.requires_grad = True
    optimizer = optim.Adam(model.parameters(), lr=5e-4)
    train_model(model, letters, criterion, optimizer, num_epochs=8)


if __name__ == "__main__":
    main()
