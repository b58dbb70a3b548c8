'''Train a small mobile network with squeeze-and-excitation, channels last.'''
import argparse
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

from toydata import Shapes


class SE(nn.Module):
    def __init__(self, planes, reduction=4):
        super().__init__()
        self.down = nn.Conv2d(planes, planes // reduction, 1)
        self.up = nn.Conv2d(planes // reduction, planes, 1)

    def forward(self, x):
        w = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.up(F.relu(self.down(w))))


class Block(nn.Module):
    '''expand + depthwise + squeeze-excitation + pointwise'''

    def __init__(self, in_planes, out_planes, expansion, stride):
        super().__init__()
        planes = expansion * in_planes
        self.conv1 = nn.Conv2d(in_planes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, groups=planes, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.se = SE(planes)
        self.conv3 = nn.Conv2d(planes, out_planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_planes)
        self.residual = stride == 1 and in_planes == out_planes

    def forward(self, x):
        out = F.relu6(self.bn1(self.conv1(x)))
        out = F.relu6(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self.se(out)))
        return x + out if self.residual else out


class MobileSE(nn.Module):
    cfg = [(3, 24, 1), (3, 24, 1), (3, 40, 2), (3, 40, 1), (3, 64, 2)]

    def __init__(self, num_classes=6):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        layers, planes = [], 24
        for expansion, out_planes, stride in self.cfg:
            layers.append(Block(planes, out_planes, expansion, stride))
            planes = out_planes
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(planes, num_classes)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layers(out)
        return self.linear(out.mean((2, 3)))


class Augment:
    '''crop with padding by the edge, flip, normalize'''

    def __init__(self, mean, std, train):
        self.mean, self.std, self.train = mean.view(3, 1, 1), std.view(3, 1, 1), train

    def __call__(self, img):
        if self.train:
            img = F.pad(img[None], (1, 1, 1, 1), mode='replicate')[0]
            top, left = torch.randint(0, 3, (2,)).tolist()
            img = img[:, top:top + 16, left:left + 16]
            if torch.rand(1) < 0.5:
                img = img.flip(-1)
        return (img - self.mean) / self.std


parser = argparse.ArgumentParser(description='Shapes training')
parser.add_argument('--lr', default=0.15, type=float, help='peak learning rate')
parser.add_argument('--epochs', default=10, type=int)
args = parser.parse_args()

torch.manual_seed(0)
best_acc = 0.0

print('==> Preparing data..')
pixels = torch.stack(Shapes(train=True).images)
mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
trainset = Shapes(train=True, transform=Augment(mean, std, True))
trainloader = torch.utils.data.DataLoader(trainset, batch_size=90, shuffle=True)
testset = Shapes(train=False, transform=Augment(mean, std, False))
testloader = torch.utils.data.DataLoader(testset, batch_size=120, shuffle=False)

print('==> Building model..')
net = MobileSE().to(memory_format=torch.channels_last)
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=args.lr, epochs=args.epochs, steps_per_epoch=len(trainloader))


def train(epoch):
    net.train()
    train_loss = torch.zeros(())
    correct = torch.zeros((), dtype=torch.long)
    for inputs, targets in trainloader:
        inputs = inputs.to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
        train_loss += loss.detach() * targets.size(0)
        correct += outputs.argmax(1).eq(targets).sum()
    print('Epoch %d | Loss %.3f | Acc %.2f%%' % (epoch, train_loss / len(trainset), 100. * correct / len(trainset)))


def test(epoch, folder):
    global best_acc
    net.eval()
    correct = total = 0
    with torch.no_grad():
        for inputs, targets in testloader:
            outputs = net(inputs.to(memory_format=torch.channels_last))
            _, predicted = outputs.max(1)
            total += targets.size(0)
            correct += predicted.eq(targets).sum().item()
    acc = 100. * correct / total
    print('          test acc %.2f%%' % acc)
    if acc > best_acc:
        torch.save({'net': net.state_dict(), 'acc': acc, 'epoch': epoch}, os.path.join(folder, 'ckpt.pth'))
        best_acc = acc


with tempfile.TemporaryDirectory() as folder:
    for epoch in range(args.epochs):
        train(epoch)
        test(epoch, folder)
print('best %.2f' % best_acc)
