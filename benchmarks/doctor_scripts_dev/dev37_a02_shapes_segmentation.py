import argparse

import torch
import torch.nn.functional as F
import torch.utils.data
from torch import nn

import toydata


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target


class RandomHorizontalFlip:
    def __init__(self, flip_prob):
        self.flip_prob = flip_prob

    def __call__(self, image, target):
        if torch.rand(1).item() < self.flip_prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return image, target


class Normalize:
    def __init__(self, mean, std):
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


class ShapesSegmentation(torch.utils.data.Dataset):
    def __init__(self, image_set, transforms, count, size=24):
        shapes = toydata.Shapes(train=image_set == "train", count=count, size=size)
        self.images, self.masks = shapes.images, shapes.masks
        self.transforms = transforms

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transforms(self.images[index], self.masks[index])


def conv_bn_relu(in_channels, out_channels):
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def double_conv(in_channels, out_channels):
    return nn.Sequential(conv_bn_relu(in_channels, out_channels), conv_bn_relu(out_channels, out_channels))


class UNet(nn.Module):
    def __init__(self, num_classes, channels=3, widths=(8, 16, 32)):
        super().__init__()
        self.downs = nn.ModuleList()
        for width in widths:
            self.downs.append(double_conv(channels, width))
            channels = width
        self.ups = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.ups.append(double_conv(channels + width, width))
            channels = width
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x):
        skips = []
        for i, down in enumerate(self.downs):
            if i > 0:
                x = F.max_pool2d(x, 2)
            x = down(x)
            skips.append(x)
        for up, skip in zip(self.ups, reversed(skips[:-1])):
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([skip, x], dim=1))
        return self.classifier(x)


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros((num_classes, num_classes), dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        k = (a >= 0) & (a < n)
        inds = n * a[k] + b[k]
        self.mat += torch.bincount(inds, minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))
        return acc_global.item(), iu.tolist()


def criterion(output, target):
    return F.cross_entropy(output, target, ignore_index=255)


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, device, epoch, print_freq=10):
    model.train()
    for i, (image, target) in enumerate(data_loader):
        image, target = image.to(device), target.to(device)
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        if i % print_freq == 0:
            print(f"Epoch: [{epoch}] lr {optimizer.param_groups[0]['lr']:.5f} loss {loss.item():.4f}")


def evaluate(model, data_loader, device, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.no_grad():
        for image, target in data_loader:
            output = model(image.to(device))
            confmat.update(target.flatten(), output.argmax(1).cpu().flatten())
    return confmat


def main(args):
    torch.manual_seed(0)
    num_classes = 4
    normalize = Normalize(mean=(0.5, 0.455, 0.5), std=(0.17, 0.13, 0.17))
    dataset = ShapesSegmentation("train", Compose([RandomHorizontalFlip(0.5), normalize]), count=720)
    dataset_test = ShapesSegmentation("val", Compose([normalize]), count=160)
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=40)

    model = UNet(num_classes).to(args.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, len(data_loader) * args.epochs, power=0.9)

    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, args.device, epoch)
        acc_global, iu = evaluate(model, data_loader_test, args.device, num_classes).compute()
        per_class = " ".join(f"{100 * value:.1f}" for value in iu)
        print(f"global correct: {100 * acc_global:.1f}  IoU: {per_class}  mean IoU: {100 * sum(iu) / len(iu):.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Segmentation training")
    parser.add_argument("--device", default="cpu", type=str)
    parser.add_argument("-b", "--batch-size", default=24, type=int)
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    main(parser.parse_args())
