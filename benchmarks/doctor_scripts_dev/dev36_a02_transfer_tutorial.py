# Transfer learning: a network that tells six colored shapes apart becomes a fixed
# feature extractor, and a new last layer learns the three kinds of shape.
import copy
import os
import tempfile
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

MEAN, STD = 0.5, 0.18
CLASS_NAMES = ["square", "disc", "cross"]


def conv_block(c_in, c_out, stride):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class ShapeNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = conv_block(3, 16, 1)
        self.layer1 = conv_block(16, 16, 1)
        self.layer2 = conv_block(16, 32, 2)
        self.layer3 = conv_block(32, 64, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def normalize(image):
    return (image - MEAN) / STD


def flip_and_normalize(image):
    if torch.rand(()) < 0.5:
        image = image.flip(-1)
    return normalize(image)


data_transforms = {
    "train": flip_and_normalize,
    "val": normalize,
}


class KindDataset(Dataset):
    def __init__(self, shapes, indices, transform):
        self.shapes, self.indices, self.transform = shapes, indices, transform

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, item):
        i = int(self.indices[item])
        return self.transform(self.shapes.images[i]), self.shapes.targets[i] % 3


def pretrain(path, epochs=8):
    """Stands for the download of weights: the source task, six colored shapes."""
    loader = DataLoader(Shapes(train=True, transform=flip_and_normalize), batch_size=32, shuffle=True)
    net = ShapeNet(num_classes=6)
    opt = optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(epochs):
        for images, names in loader:
            opt.zero_grad()
            nn.functional.cross_entropy(net(images), names).backward()
            opt.step()
    torch.save({"epoch": epochs, "state_dict": nn.DataParallel(net).state_dict()}, path)


def train_model(model, dataloaders, criterion, optimizer, scheduler, num_epochs=12):
    since = time.time()
    best_model_wts = copy.deepcopy(model.state_dict())
    best_acc = 0.0
    for epoch in range(num_epochs):
        for phase in ["train", "val"]:
            model.train(phase == "train")
            for name, child in model.named_children():
                if name != "fc":
                    child.eval()

            running_loss, running_corrects = 0.0, 0
            for inputs, labels in dataloaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels).item()
            if phase == "train":
                scheduler.step()

            epoch_loss = running_loss / len(dataloaders[phase].dataset)
            epoch_acc = running_corrects / len(dataloaders[phase].dataset)
            print(f"epoch {epoch} {phase} loss {epoch_loss:.4f} acc {epoch_acc:.4f}")
            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                best_model_wts = copy.deepcopy(model.state_dict())
    print(f"done in {time.time() - since:.0f}s, best val acc {best_acc:.4f}")
    model.load_state_dict(best_model_wts)
    return model


def main():
    torch.manual_seed(42)
    weights = os.path.join(tempfile.mkdtemp(), "shapenet6.pth")
    pretrain(weights)

    shapes = Shapes(train=False, count=480)
    order = torch.randperm(len(shapes))
    idx_train, idx_val = order[:360], order[360:]
    dataloaders = {
        "train": DataLoader(KindDataset(shapes, idx_train, data_transforms["train"]), batch_size=32, shuffle=True),
        "val": DataLoader(KindDataset(shapes, idx_val, data_transforms["val"]), batch_size=32),
    }

    model = ShapeNet(num_classes=6)
    checkpoint = torch.load(weights, map_location="cpu")
    state_dict = {k.replace("module.", "", 1): v for k, v in checkpoint["state_dict"].items()}
    model.load_state_dict(state_dict)
    for param in model.parameters():
        param.requires_grad = False

    model.fc = nn.Sequential(nn.Dropout(0.2), nn.Linear(model.fc.in_features, len(CLASS_NAMES)))
    optimizer_ft = optim.SGD(model.fc.parameters(), lr=0.05, momentum=0.9)
    exp_lr_scheduler = lr_scheduler.StepLR(optimizer_ft, step_size=6, gamma=0.1)

    train_model(model, dataloaders, nn.CrossEntropyLoss(), optimizer_ft, exp_lr_scheduler)


if __name__ == "__main__":
    main()
