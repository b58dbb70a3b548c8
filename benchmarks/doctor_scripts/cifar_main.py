"""Train CIFAR10 with PyTorch."""

import torch
import torch.nn as nn
import torch.optim as optim
from toydata import Shapes

best_acc = 0
torch.manual_seed(0)

print("==> Preparing data..")
mean, std = torch.tensor([0.5, 0.48, 0.5]).view(3, 1, 1), torch.tensor([0.15, 0.14, 0.15]).view(3, 1, 1)


def random_crop(image, size=16, padding=1):
    image = torch.nn.functional.pad(image, (padding,) * 4, value=0.5)
    top, left = torch.randint(0, 2 * padding + 1, (2,)).tolist()
    return image[:, top : top + size, left : left + size]


def transform_train(image):
    image = random_crop(image)
    return (image - mean) / std


def transform_test(image):
    return (image - mean) / std


trainset = Shapes(train=True, transform=transform_train)
trainloader = torch.utils.data.DataLoader(trainset, batch_size=64, shuffle=True)
testset = Shapes(train=False, transform=transform_test)
testloader = torch.utils.data.DataLoader(testset, batch_size=100, shuffle=False)

print("==> Building model..")
cfg = [16, "M", 32, "M", 64]


class VGG(nn.Module):
    def __init__(self):
        super().__init__()
        layers, in_channels = [], 3
        for x in cfg:
            if x == "M":
                layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
            else:
                layers += [
                    nn.Conv2d(in_channels, x, kernel_size=3, padding=1),
                    nn.BatchNorm2d(x),
                    nn.ReLU(inplace=True),
                ]
                in_channels = x
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(64 * 16, 6)

    def forward(self, x):
        out = self.features(x)
        out = out.view(out.size(0), -1)
        return self.classifier(out)


net = VGG()
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)


def train(epoch):
    print("\nEpoch: %d" % epoch)
    net.train()
    train_loss = 0
    correct = 0
    total = 0
    for batch_idx, (inputs, targets) in enumerate(trainloader):
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        train_loss += loss.item()
        _, predicted = outputs.max(1)
        total += targets.size(0)
        correct += predicted.eq(targets).sum().item()
    print("Loss: %.3f | Acc: %.3f%% (%d/%d)" % (train_loss / (batch_idx + 1), 100.0 * correct / total, correct, total))


def test(epoch):
    global best_acc
    net.eval()
    correct = 0
    total = 0
    with torch.no_grad():
        for batch_idx, (inputs, targets) in enumerate(testloader):
            outputs = net(inputs)
            _, predicted = outputs.max(1)
            total += targets.size(0)
            correct += predicted.eq(targets).sum().item()
    acc = 100.0 * correct / total
    print("Test acc: %.3f%%" % acc)
    best_acc = max(best_acc, acc)


for epoch in range(5):
    train(epoch)
    test(epoch)
    scheduler.step()
