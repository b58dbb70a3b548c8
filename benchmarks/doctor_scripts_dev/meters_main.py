"""In the idiom of pytorch/examples/imagenet main.py: meters, top-k accuracy, transforms as classes, a best checkpoint."""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CLASSES = ("stripes-h", "stripes-v", "checker", "gradient", "ring")


def draw(kind, generator, size=24):
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    period = 4 + 3 * torch.rand((), generator=generator)
    phase = 6.28 * torch.rand((), generator=generator)
    if kind == 0:
        plane = torch.sin(6.28 * y / period + phase)
    elif kind == 1:
        plane = torch.sin(6.28 * x / period + phase)
    elif kind == 2:
        plane = torch.sin(6.28 * x / period + phase) * torch.sin(6.28 * y / period + phase) * 1.6
    elif kind == 3:
        plane = (x * torch.cos(phase) + y * torch.sin(phase)) / size * 2 - 0.7
    else:
        away = ((x - size / 2) ** 2 + (y - size / 2) ** 2).sqrt()
        plane = torch.cos((away - 7) / 2.5) * 1.2
    tint = 0.5 + 0.5 * torch.rand(3, 1, 1, generator=generator)
    noise = 0.15 * torch.randn(3, size, size, generator=generator)
    return ((plane * tint * 0.4 + 0.5 + noise).clamp(0, 1) * 255).to(torch.uint8)


class Textures(Dataset):
    def __init__(self, count, seed, transform):
        generator = torch.Generator().manual_seed(seed)
        self.targets = torch.randint(0, len(CLASSES), (count,), generator=generator).tolist()
        self.samples = [draw(kind, generator) for kind in self.targets]
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.transform(self.samples[index]), self.targets[index]


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for t in self.transforms:
            image = t(image)
        return image


class RandomCrop:
    def __init__(self, size):
        self.size = size

    def __call__(self, image):
        top, left = torch.randint(0, image.shape[1] - self.size + 1, (2,)).tolist()
        return image[:, top : top + self.size, left : left + self.size]


class CenterCrop(RandomCrop):
    def __call__(self, image):
        edge = (image.shape[1] - self.size) // 2
        return image[:, edge : edge + self.size, edge : edge + self.size]


class RandomHorizontalFlip:
    def __call__(self, image):
        return image.flip(2) if torch.rand(()) < 0.5 else image


class ToTensor:
    def __call__(self, image):
        return image.float() / 255


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, image):
        return (image - self.mean) / self.std


class AverageMeter:
    def __init__(self, name, fmt=":f"):
        self.name, self.fmt = name, fmt
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count

    def __str__(self):
        return ("{name} {val" + self.fmt + "} ({avg" + self.fmt + "})").format(**self.__dict__)


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        _, pred = output.topk(max(topk), 1, True, True)
        correct = pred.t().eq(target.view(1, -1))
        return [correct[:k].reshape(-1).float().sum().mul_(100.0 / target.size(0)) for k in topk]


def block(c_in, c_out, stride):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
    )


def texture_net():
    return nn.Sequential(
        block(3, 16, 1), block(16, 24, 2), block(24, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)
    )


def train(train_loader, model, criterion, optimizer, epoch):
    losses, top1 = AverageMeter("Loss", ":.4e"), AverageMeter("Acc@1", ":6.2f")
    model.train()
    for i, (images, target) in enumerate(train_loader):
        output = model(images)
        loss = criterion(output, target)
        acc1, acc2 = accuracy(output, target, topk=(1, 2))
        losses.update(loss.item(), images.size(0))
        top1.update(acc1.item(), images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % 10 == 0:
            print(f"Epoch: [{epoch}][{i}/{len(train_loader)}]", losses, top1)


def validate(val_loader, model, criterion):
    losses, top1 = AverageMeter("Loss", ":.4e"), AverageMeter("Acc@1", ":6.2f")
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images)
            loss = criterion(output, target)
            acc1, _ = accuracy(output, target, topk=(1, 2))
            losses.update(loss.item(), images.size(0))
            top1.update(acc1.item(), images.size(0))
    print(" *", losses, top1)
    return top1.avg


def main_worker():
    torch.manual_seed(3)
    normalize = Normalize([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
    train_dataset = Textures(800, 0, Compose([RandomCrop(20), RandomHorizontalFlip(), ToTensor(), normalize]))
    val_dataset = Textures(200, 1, Compose([CenterCrop(20), ToTensor(), normalize]))
    train_loader = DataLoader(train_dataset, batch_size=32, shuffle=True, num_workers=0, pin_memory=False)
    val_loader = DataLoader(val_dataset, batch_size=50, shuffle=False)
    model = texture_net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.1)
    best_acc1, best = 0, None
    for epoch in range(6):
        train(train_loader, model, criterion, optimizer, epoch)
        acc1 = validate(val_loader, model, criterion)
        scheduler.step()
        if acc1 > best_acc1:
            best_acc1, best = acc1, copy.deepcopy(model.state_dict())


if __name__ == "__main__":
    main_worker()
