import argparse
import os
import random
import shutil
import tempfile
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description='PyTorch Shapes Training')
parser.add_argument('--epochs', default=8, type=int)
parser.add_argument('-b', '--batch-size', default=32, type=int)
parser.add_argument('--lr', '--learning-rate', default=0.05, type=float)
parser.add_argument('-p', '--print-freq', default=20, type=int)
parser.add_argument('--seed', default=1, type=int)
COLORS = {'warm': (190, 110, 70), 'cool': (70, 110, 190)}


def draw_samples(n, seed, size=40):
    rng = np.random.RandomState(seed)
    grid_y, grid_x = np.mgrid[:size, :size]
    samples = []
    for _ in range(n):
        dx, dy, r = grid_x - rng.uniform(16, 24), grid_y - rng.uniform(16, 24), rng.uniform(5, 10)
        near, far = np.minimum(abs(dx), abs(dy)), np.maximum(abs(dx), abs(dy))
        masks = {'disk': dx ** 2 + dy ** 2 < r ** 2, 'square': far < 0.9 * r, 'cross': (near < r / 3) & (far < r),
                 'triangle_up': (2 * abs(dx) < dy + r) & (dy < r),
                 'triangle_down': (2 * abs(dx) < r - dy) & (dy > -r)}
        shape, color = rng.choice(list(masks)), rng.choice(list(COLORS))
        fill = np.array(COLORS[color]) + rng.randint(-45, 46, 3)
        pixels = np.where(masks[shape][..., None], fill, rng.randint(60, 130, 3))
        pixels = np.clip(pixels + rng.normal(0, 30, pixels.shape), 0, 255)
        samples.append((pixels.astype(np.uint8), color + '_' + shape))
    return samples


class ShapeFolder(Dataset):
    def __init__(self, samples, mean, std, train, size=32):
        self.samples, self.train, self.size = samples, train, size
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
        self.classes = sorted({name for _, name in samples})
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image, name = self.samples[index]
        room = image.shape[0] - self.size
        top, left = [random.randint(0, room) if self.train else room // 2 for _ in range(2)]
        image = image[top:top + self.size, left:left + self.size]
        image = torch.tensor(image).permute(2, 0, 1).float().div(255)
        if self.train and random.random() < 0.5:
            image = torch.flip(image, dims=[2])
        return (image - self.mean) / self.std, self.class_to_idx[name]


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Identity()
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
                                  nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.layer1 = BasicBlock(16, 16)
        self.layer2 = BasicBlock(16, 32, stride=2)
        self.layer3 = BasicBlock(32, 64)
        self.fc = nn.Linear(64, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        x = torch.flatten(x, 2).mean(dim=2)
        return self.fc(x)


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    folder = tempfile.mkdtemp(prefix='shapes-')
    train_samples = draw_samples(2000, seed=10)
    pixels = np.stack([image for image, _ in train_samples]).astype(np.float32) / 255
    mean, std = pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2))
    train_dataset = ShapeFolder(train_samples, mean, std, train=True)
    train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(ShapeFolder(draw_samples(500, seed=11), mean, std, train=False), batch_size=250)
    test_loader = DataLoader(ShapeFolder(draw_samples(1000, seed=12), mean, std, train=False), batch_size=250)

    model = ResNet(num_classes=len(train_dataset.classes))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=1e-4)

    best_acc1 = 0
    for epoch in range(args.epochs):
        adjust_learning_rate(optimizer, epoch, args)
        train(train_loader, model, criterion, optimizer, epoch, args)
        acc1 = validate(val_loader, model, criterion)
        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        save_checkpoint({'epoch': epoch + 1, 'state_dict': model.state_dict(), 'best_acc1': best_acc1,
                         'optimizer': optimizer.state_dict()}, is_best, folder)
    checkpoint = torch.load(os.path.join(folder, 'model_best.pth.tar'))
    model.load_state_dict(checkpoint['state_dict'])
    print('=> best epoch {epoch} (val {best_acc1:.2f}), on the test images:'.format(**checkpoint))
    validate(test_loader, model, criterion)
    shutil.rmtree(folder)


def train(train_loader, model, criterion, optimizer, epoch, args):
    losses, top1 = AverageMeter('Loss'), AverageMeter('Acc@1')
    progress = ProgressMeter(len(train_loader), [losses, top1], prefix='Epoch: [{}]'.format(epoch))
    model.train()
    for i, (images, target) in enumerate(train_loader):
        output = model(images)
        loss = criterion(output, target)
        acc1, = accuracy(output, target, topk=(1,))
        losses.update(loss.item(), images.size(0))
        top1.update(acc1.item(), images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % args.print_freq == 0:
            progress.display(i + 1)


def validate(val_loader, model, criterion):
    losses, top1, top3 = AverageMeter('Loss'), AverageMeter('Acc@1'), AverageMeter('Acc@3')
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images)
            acc1, acc3 = accuracy(output, target, topk=(1, 3))
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(acc1.item(), images.size(0))
            top3.update(acc3.item(), images.size(0))
    print(' * Acc@1 {:.3f} Acc@3 {:.3f} Loss {:.4f}'.format(top1.avg, top3.avg, losses.avg))
    return top1.avg


def save_checkpoint(state, is_best, folder, filename='checkpoint.pth.tar'):
    torch.save(state, os.path.join(folder, filename))
    if is_best:
        shutil.copyfile(os.path.join(folder, filename), os.path.join(folder, 'model_best.pth.tar'))


class AverageMeter(object):
    def __init__(self, name):
        self.name, self.val, self.avg, self.sum, self.count = name, 0, 0, 0, 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


class ProgressMeter(object):
    def __init__(self, num_batches, meters, prefix=''):
        self.num_batches, self.meters, self.prefix = num_batches, meters, prefix

    def display(self, batch):
        print('{}[{}/{}]'.format(self.prefix, batch, self.num_batches),
              *['{} {:.4f} ({:.4f})'.format(m.name, m.val, m.avg) for m in self.meters], sep='\t')


def adjust_learning_rate(optimizer, epoch, args):
    lr = args.lr * (0.5 ** (epoch // 2))
    for param_group in optimizer.param_groups:
        param_group['lr'] = lr


def accuracy(output, target, topk=(1,)):
    _, pred = output.topk(max(topk), 1, True, True)
    correct = pred.t().eq(target.view(1, -1))
    return [correct[:k].reshape(-1).float().sum() * (100.0 / target.size(0)) for k in topk]


if __name__ == '__main__':
    main()
