'''Train a small ResNet on digits with PyTorch.'''
import argparse
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, Subset

from toydata import Digits

parser = argparse.ArgumentParser(description='PyTorch ResNet Training')
parser.add_argument('--lr', default=0.05, type=float, help='learning rate')
parser.add_argument('--epochs', default=15, type=int)
parser.add_argument('--seed', default=0, type=int)
args = parser.parse_args()

device = 'cuda' if torch.cuda.is_available() else 'cpu'
torch.manual_seed(args.seed)
best_acc = 0.0
checkpoint_path = os.path.join(tempfile.mkdtemp(), 'ckpt.pth')

# Data
print('==> Preparing data..')


class ToTensor:
    def __call__(self, image):
        return image.float() / 255


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, image):
        return (image - self.mean) / self.std


class RandomCrop:
    def __init__(self, padding):
        self.padding = padding

    def __call__(self, image):
        p = self.padding
        height, width = image.shape[-2:]
        top, left = torch.randint(0, 2 * p + 1, (2,)).tolist()
        return F.pad(image, (p, p, p, p))[..., top:top + height, left:left + width]


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


trainset = Digits(train=True, count=3000)
pixels = trainset.data.float() / 255
normalize = Normalize(pixels.mean().item(), pixels.std().item())
trainset.transform = Compose([ToTensor(), RandomCrop(1), normalize])
heldout = Digits(train=False, count=1000, transform=Compose([ToTensor(), normalize]))

trainloader = DataLoader(trainset, batch_size=64, shuffle=True)
valloader = DataLoader(Subset(heldout, range(500)), batch_size=100, shuffle=False)
testloader = DataLoader(Subset(heldout, range(500, 1000)), batch_size=100, shuffle=False)


# Model
class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super(BasicBlock, self).__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(planes),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self, widths=(12, 24, 48), num_classes=10):
        super(ResNet, self).__init__()
        self.conv1 = nn.Conv2d(1, widths[0], kernel_size=3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = BasicBlock(widths[0], widths[0], stride=1)
        self.layer2 = BasicBlock(widths[0], widths[1], stride=2)
        self.layer3 = BasicBlock(widths[1], widths[2], stride=2)
        self.linear = nn.Linear(widths[2], num_classes)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = F.adaptive_avg_pool2d(out, 1).flatten(1)
        return self.linear(out)


print('==> Building model..')
net = ResNet().to(device)
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)


# Training
def train(epoch):
    net.train()
    train_loss = 0
    correct = 0
    total = 0
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
    print('Epoch %d | Train loss: %.3f | Acc: %.3f%% (%d/%d)'
          % (epoch, train_loss / total, 100. * correct / total, correct, total))


def test(loader):
    net.eval()
    test_loss = 0
    correct = 0
    total = 0
    with torch.no_grad():
        for inputs, targets in loader:
            inputs, targets = inputs.to(device), targets.to(device)
            outputs = net(inputs)
            loss = criterion(outputs, targets)
            test_loss += loss.item() * targets.size(0)
            _, predicted = outputs.max(1)
            total += targets.size(0)
            correct += predicted.eq(targets).sum().item()
    return test_loss / total, 100. * correct / total


for epoch in range(args.epochs):
    train(epoch)
    loss, acc = test(valloader)
    print('        | Val loss: %.3f | Acc: %.3f%%' % (loss, acc))
    if acc > best_acc:
        print('Saving..')
        torch.save({'net': net.state_dict(), 'acc': acc, 'epoch': epoch}, checkpoint_path)
        best_acc = acc
    scheduler.step()

checkpoint = torch.load(checkpoint_path, map_location=device)
net.load_state_dict(checkpoint['net'])
loss, acc = test(testloader)
print('Best epoch %d (val %.2f%%) | Test loss: %.3f | Acc: %.3f%%'
      % (checkpoint['epoch'], checkpoint['acc'], loss, acc))
