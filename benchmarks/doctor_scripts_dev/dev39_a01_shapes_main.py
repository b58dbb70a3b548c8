"""Train a small residual network on colored shapes (layout after pytorch/examples/imagenet/main.py)."""

import argparse
import os
import random
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.data

import toydata

parser = argparse.ArgumentParser(description="PyTorch Shapes Training")
parser.add_argument("--epochs", default=10, type=int, metavar="N")
parser.add_argument("-b", "--batch-size", default=32, type=int, metavar="N")
parser.add_argument("--lr", "--learning-rate", default=0.05, type=float, metavar="LR", dest="lr")
parser.add_argument("--step-size", default=4, type=int, help="epochs between two drops of the learning rate")
parser.add_argument("--momentum", default=0.9, type=float, metavar="M")
parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, metavar="W", dest="weight_decay")
parser.add_argument("--clip", default=5.0, type=float, help="largest norm of the gradient")
parser.add_argument("--seed", default=0, type=int)

MEAN = torch.tensor([0.50, 0.45, 0.50]).view(3, 1, 1)
STD = torch.tensor([0.18, 0.14, 0.18]).view(3, 1, 1)


class DecodedShapes(torch.utils.data.Dataset):
    """Images as a decoder gives them: uint8 arrays of height x width x channels."""

    def __init__(self, train, transform):
        source = toydata.Shapes(train=train)
        arrays = [(image.permute(1, 2, 0) * 255).to(torch.uint8).contiguous().numpy() for image in source.images]
        self.samples = list(zip(arrays, source.targets))
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        array, target = self.samples[index]
        return self.transform(array), target


def to_tensor(array):
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255


def train_transform(array):
    image = to_tensor(array)
    if random.random() < 0.5:
        image = image.flip(2)
    height, width = image.shape[1:]
    top, left = random.randint(0, 4), random.randint(0, 4)
    image = F.pad(image, (2, 2, 2, 2), value=0.5)[:, top : top + height, left : left + width]
    return (image - MEAN) / STD


def val_transform(array):
    return (to_tensor(array) - MEAN) / STD


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + identity)


class ResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layers = nn.Sequential(BasicBlock(16, 16), BasicBlock(16, 32, 2), BasicBlock(32, 64, 2))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.layers(self.stem(x)).mean(dim=(2, 3))
        return self.fc(self.dropout(x))


def train(train_loader, model, criterion, optimizer, scaler, device, args):
    model.train()
    total_loss = 0.0
    for images, target in train_loader:
        images, target = images.to(device), target.to(device)
        with torch.autocast(device.type, dtype=torch.float16, enabled=device.type == "cuda"):
            output = model(images)
            loss = criterion(output, target)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        scaler.step(optimizer)
        scaler.update()
        total_loss += loss.item() * images.size(0)
    return total_loss / len(train_loader.dataset)


@torch.no_grad()
def validate(val_loader, model, criterion, device):
    total_loss, top1, top2 = 0.0, 0, 0
    model.eval()
    for images, target in val_loader:
        images, target = images.to(device), target.to(device)
        output = model(images)
        total_loss += criterion(output, target).item() * images.size(0)
        _, pred = output.topk(2, dim=1)
        correct = pred.eq(target.view(-1, 1))
        top1 += correct[:, 0].sum().item()
        top2 += correct.sum().item()
    count = len(val_loader.dataset)
    return total_loss / count, 100.0 * top1 / count, 100.0 * top2 / count


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    path = os.path.join(tempfile.mkdtemp(), "model_best.pth.tar")

    train_loader = torch.utils.data.DataLoader(DecodedShapes(True, train_transform), args.batch_size, shuffle=True)
    val_loader = torch.utils.data.DataLoader(DecodedShapes(False, val_transform), args.batch_size)

    model = ResNet(num_classes=len(toydata.NAMES)).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=args.step_size, gamma=0.1)
    scaler = torch.amp.GradScaler(device.type)

    best_acc1 = 0.0
    for epoch in range(args.epochs):
        train_loss = train(train_loader, model, criterion, optimizer, scaler, device, args)
        val_loss, acc1, acc2 = validate(val_loader, model, criterion, device)
        print(f"Epoch [{epoch}] Loss {train_loss:.4f} Val {val_loss:.4f} Acc@1 {acc1:.2f} Acc@2 {acc2:.2f}")
        scheduler.step()

        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        if is_best:
            torch.save({"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1}, path)
    print(f" * best Acc@1 {best_acc1:.2f}")


if __name__ == "__main__":
    main()
