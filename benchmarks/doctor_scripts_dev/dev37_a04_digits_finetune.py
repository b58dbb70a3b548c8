import argparse
import os
import random
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

SOURCE_CLASSES = [0, 1, 2, 3, 4]
TARGET_CLASSES = [5, 6, 7, 8, 9]

parser = argparse.ArgumentParser(description='Pre-training on many clean digits, fine-tuning on few noisy others')
parser.add_argument('--epochs', default=20, type=int, metavar='N')
parser.add_argument('-b', '--batch-size', default=32, type=int, metavar='N')
parser.add_argument('--lr', '--learning-rate', default=0.05, type=float, metavar='LR')


class DigitFolder(Dataset):
    def __init__(self, classes, count, limit, seed, noise=0.1, augment=False):
        images, labels = draw_digits(count, seed=seed, noise=noise)
        keep = torch.isin(labels, torch.tensor(classes))
        self.images = images[keep][:limit]
        labels = labels[keep][:limit].tolist()
        self.class_to_idx = {c: i for i, c in enumerate(sorted(set(labels)))}
        self.targets = [self.class_to_idx[c] for c in labels]
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index].float() / 255
        if self.augment:
            top, left = random.randint(0, 2), random.randint(0, 2)
            image = F.pad(image, (1, 1, 1, 1))[:, top:top + 16, left:left + 16]
        return (image - 0.17) / 0.31, self.targets[index]


def conv_bn(inplanes, planes, kernel_size, stride=1):
    conv = nn.Conv2d(inplanes, planes, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(planes))


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = conv_bn(inplanes, planes, 3, stride)
        self.conv2 = conv_bn(planes, planes, 3)
        self.shortcut = nn.Identity() if stride == 1 and inplanes == planes else conv_bn(inplanes, planes, 1, stride)

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class SmallResNet(nn.Module):
    def __init__(self, num_classes, width=12):
        super().__init__()
        self.stem = conv_bn(1, width, 3)
        self.layer1 = BasicBlock(width, width)
        self.layer2 = BasicBlock(width, 2 * width, stride=2)
        self.layer3 = BasicBlock(2 * width, 4 * width, stride=2)
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.stem(x)))))
        return self.fc(x.mean(dim=(2, 3)))


class AverageMeter:
    def __init__(self):
        self.sum, self.count, self.avg = 0.0, 0, 0.0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def train(train_loader, model, criterion, optimizer, device):
    losses = AverageMeter()
    model.train()
    for images, target in train_loader:
        loss = criterion(model(images.to(device)), target.to(device))
        losses.update(loss.item(), images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses.avg


def validate(val_loader, model, device):
    top1 = AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images.to(device)).cpu()
            acc1 = 100.0 * (output.argmax(dim=1) == target).float().mean().item()
            top1.update(acc1, images.size(0))
    return top1.avg


def pretrain(args, device, path):
    dataset = DigitFolder(SOURCE_CLASSES, count=1200, limit=560, seed=20, augment=True)
    loader = DataLoader(dataset, batch_size=64, shuffle=True, drop_last=True)
    model = nn.DataParallel(SmallResNet(len(SOURCE_CLASSES)).to(device))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    for epoch in range(10):
        loss = train(loader, model, nn.CrossEntropyLoss(), optimizer, device)
        print('Pre-training [{}] Loss {:.4f}'.format(epoch, loss))
    torch.save({'epoch': 10, 'state_dict': model.state_dict()}, path)


def load_pretrained(model, path):
    state_dict = torch.load(path, map_location='cpu')['state_dict']
    for k in list(state_dict.keys()):
        if not k.startswith('module.fc.'):
            state_dict[k[len('module.'):]] = state_dict[k]
        del state_dict[k]
    model.load_state_dict(state_dict, strict=False)


def main():
    args = parser.parse_args()
    random.seed(3)
    torch.manual_seed(3)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    folder = tempfile.mkdtemp()
    pretrain(args, device, os.path.join(folder, 'pretrained.pth.tar'))

    model = SmallResNet(len(SOURCE_CLASSES)).to(device)
    load_pretrained(model, os.path.join(folder, 'pretrained.pth.tar'))
    model.fc = nn.Linear(model.fc.in_features, len(TARGET_CLASSES)).to(device)
    backbone = [p for n, p in model.named_parameters() if not n.startswith('fc.')]
    groups = [{'params': backbone, 'lr': 0.2 * args.lr}, {'params': model.fc.parameters()}]
    optimizer = torch.optim.SGD(groups, lr=args.lr, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)

    train_set = DigitFolder(TARGET_CLASSES, count=500, limit=200, seed=21, noise=0.25, augment=True)
    val_set = DigitFolder(TARGET_CLASSES, count=400, limit=130, seed=22, noise=0.25)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=64)

    best_acc1 = 0
    for epoch in range(args.epochs):
        loss = train(train_loader, model, nn.CrossEntropyLoss(), optimizer, device)
        acc1 = validate(val_loader, model, device)
        scheduler.step()
        print('Epoch [{}] Loss {:.4f} * Acc@1 {:.2f}'.format(epoch, loss, acc1))
        if acc1 > best_acc1:
            best_acc1 = acc1
            torch.save({'epoch': epoch + 1, 'state_dict': model.state_dict()}, os.path.join(folder, 'best.pth.tar'))
    print('best Acc@1 {:.2f}'.format(best_acc1))


if __name__ == '__main__':
    main()
