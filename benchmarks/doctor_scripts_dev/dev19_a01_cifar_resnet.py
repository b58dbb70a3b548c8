'''Train a small ResNet on CIFAR-like pictures with PyTorch.'''
import argparse
import os
import random
import tempfile
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

from toydata import Shapes


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, img):
        for t in self.transforms:
            img = t(img)
        return img


class RandomCrop:
    def __init__(self, size, padding):
        self.size, self.padding = size, padding

    def __call__(self, img):
        img = F.pad(img, [self.padding] * 4)
        top = random.randint(0, 2 * self.padding)
        left = random.randint(0, 2 * self.padding)
        return img[:, top:top + self.size, left:left + self.size]


class RandomHorizontalFlip:
    def __call__(self, img):
        return img.flip(2) if random.random() < 0.5 else img


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean[:, None, None], std[:, None, None]

    def __call__(self, img):
        return (img - self.mean) / self.std


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False),
                nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self, num_classes=6):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.layer1 = BasicBlock(12, 12)
        self.layer2 = BasicBlock(12, 24, stride=2)
        self.layer3 = BasicBlock(24, 48, stride=2)
        self.linear = nn.Linear(48, num_classes)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = F.adaptive_avg_pool2d(out, 1).flatten(1)
        return self.linear(out)


def train(epoch, net, trainloader, criterion, optimizer, scheduler, device):
    net.train()
    train_loss, correct, total = 0, 0, 0
    for batch_idx, (inputs, targets) in enumerate(trainloader):
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()

        train_loss += loss.item() * targets.size(0)
        _, predicted = outputs.max(1)
        total += targets.size(0)
        correct += predicted.eq(targets).sum().item()
    scheduler.step()
    print('Epoch %d | train loss %.3f | train acc %.2f%%' % (epoch, train_loss / total, 100. * correct / total), end='')


def test(net, testloader, criterion, device):
    net.eval()
    test_loss, correct, total = 0, 0, 0
    with torch.no_grad():
        for inputs, targets in testloader:
            inputs, targets = inputs.to(device), targets.to(device)
            outputs = net(inputs)
            test_loss += criterion(outputs, targets).item() * targets.size(0)
            predicted = outputs.argmax(1)
            total += targets.size(0)
            correct += predicted.eq(targets).sum().item()
    acc = 100. * correct / total
    print(' | test loss %.3f | test acc %.2f%%' % (test_loss / total, acc))
    return acc


def main():
    parser = argparse.ArgumentParser(description='ResNet training')
    parser.add_argument('--lr', default=0.05, type=float, help='learning rate')
    parser.add_argument('--epochs', default=12, type=int)
    parser.add_argument('--batch-size', default=64, type=int)
    parser.add_argument('--seed', default=1, type=int)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    random.seed(args.seed)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'

    print('==> Preparing data..')
    pixels = torch.stack(Shapes(train=True, count=2000).images)
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    transform_train = Compose([RandomCrop(16, padding=2), RandomHorizontalFlip(), Normalize(mean, std)])
    transform_test = Compose([Normalize(mean, std)])

    trainset = Shapes(train=True, count=2000, transform=transform_train)
    trainloader = torch.utils.data.DataLoader(trainset, batch_size=args.batch_size, shuffle=True)
    testset = Shapes(train=False, count=420, transform=transform_test)
    testloader = torch.utils.data.DataLoader(testset, batch_size=100, shuffle=False)

    print('==> Building model..')
    net = ResNet().to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
    milestones = [int(args.epochs * part) for part in (0.5, 0.75, 0.9)]
    scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=milestones, gamma=0.1)

    best_acc = 0
    checkpoint = os.path.join(tempfile.mkdtemp(), 'ckpt.pth')
    start = time.time()
    for epoch in range(args.epochs):
        train(epoch, net, trainloader, criterion, optimizer, scheduler, device)
        acc = test(net, testloader, criterion, device)
        if acc > best_acc:
            torch.save({'net': net.state_dict(), 'acc': acc, 'epoch': epoch}, checkpoint)
            best_acc = acc
    print('best acc %.2f%%, %.1f s' % (best_acc, time.time() - start))


if __name__ == '__main__':
    main()
