import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from toydata import Digits

torch.manual_seed(0)
np.random.seed(0)
to_tensor = lambda image: image.float() / 255
trainloader = torch.utils.data.DataLoader(Digits(train=True, transform=to_tensor), batch_size=48, shuffle=True)
testloader = torch.utils.data.DataLoader(Digits(train=False, transform=to_tensor), batch_size=100, shuffle=False)
net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1, bias=False),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1, bias=False),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(512, 10),
)
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


def mixup_data(x, y, alpha=0.4):
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(x.size(0))
    mixed_x = lam * x + (1 - lam) * x[index, :]
    return mixed_x, y, y[index], lam


def mixup_criterion(criterion, pred, y_a, y_b, lam):
    return lam * criterion(pred, y_a) + (1 - lam) * criterion(pred, y_b)


def train(epoch):
    net.train()
    train_loss, correct, total = 0, 0, 0
    for batch_idx, (inputs, targets) in enumerate(trainloader):
        inputs, targets_a, targets_b, lam = mixup_data(inputs, targets)
        outputs = net(inputs)
        loss = mixup_criterion(criterion, outputs, targets_a, targets_b, lam)
        train_loss += loss.item()
        _, predicted = torch.max(outputs.data, 1)
        total += targets.size(0)
        correct += lam * predicted.eq(targets_a).sum().item() + (1 - lam) * predicted.eq(targets_b).sum().item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return train_loss / batch_idx, 100.0 * correct / total


def test(epoch):
    net.eval()
    correct, total = 0, 0
    for batch_idx, (inputs, targets) in enumerate(testloader):
        with torch.no_grad():
            outputs = net(inputs)
        _, predicted = torch.max(outputs.data, 1)
        total += targets.size(0)
        correct += predicted.eq(targets.data).sum().item()
    return 100.0 * correct / total


def adjust_learning_rate(optimizer, epoch, base=0.05):
    lr = base / 10 if epoch >= 4 else base
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr


for epoch in range(5):
    train_loss, train_acc = train(epoch)
    adjust_learning_rate(optimizer, epoch)
    print(epoch, train_loss, train_acc, test(epoch))
