import datetime
import time

import torch
import torch.nn as nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from toydata import Digits


class AverageMeter(object):
    """Computes and stores the average and current value."""

    def __init__(self):
        self.val, self.avg, self.sum, self.count = 0, 0, 0, 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


class CenterLoss(nn.Module):
    """Wen et al. A Discriminative Feature Learning Approach for Deep Face Recognition. ECCV 2016."""

    def __init__(self, num_classes, feat_dim):
        super(CenterLoss, self).__init__()
        self.centers = nn.Parameter(torch.randn(num_classes, feat_dim))

    def forward(self, x, labels):
        return (x - self.centers[labels]).pow(2).sum(dim=1).mean()


class ConvNet(nn.Module):
    def __init__(self, num_classes, feat_dim=8):
        super(ConvNet, self).__init__()
        self.conv1_1 = nn.Conv2d(1, 16, 3, padding=1)
        self.prelu1_1 = nn.PReLU()
        self.conv1_2 = nn.Conv2d(16, 16, 3, padding=1)
        self.prelu1_2 = nn.PReLU()
        self.conv2_1 = nn.Conv2d(16, 32, 3, padding=1)
        self.prelu2_1 = nn.PReLU()
        self.fc1 = nn.Linear(32 * 4 * 4, feat_dim)
        self.prelu_fc1 = nn.PReLU()
        self.fc2 = nn.Linear(feat_dim, num_classes)

    def forward(self, x):
        x = self.prelu1_1(self.conv1_1(x))
        x = self.prelu1_2(self.conv1_2(x))
        x = torch.max_pool2d(x, 2)
        x = self.prelu2_1(self.conv2_1(x))
        x = torch.max_pool2d(x, 2)
        feat = self.prelu_fc1(self.fc1(x.flatten(1)))
        return feat, self.fc2(feat)


class Options:
    seed = 1
    batch_size = 40
    lr_model = 0.03
    lr_cent = 0.5
    weight_cent = 0.02
    max_epoch = 14
    stepsize = 9
    gamma = 0.2


def normalize(image):
    return (image.float() / 255 - 0.2) / 0.3


def train(model, criterion_xent, criterion_cent, optimizer_model, optimizer_centloss, loader, args):
    model.train()
    xent_losses, cent_losses = AverageMeter(), AverageMeter()
    for data, labels in loader:
        features, outputs = model(data)
        loss_xent = criterion_xent(outputs, labels)
        loss_cent = criterion_cent(features, labels) * args.weight_cent
        loss = loss_xent + loss_cent

        optimizer_model.zero_grad()
        optimizer_centloss.zero_grad()
        loss.backward()
        optimizer_model.step()
        # by doing so, weight_cent would not impact on the learning of centers
        for param in criterion_cent.parameters():
            param.grad.data *= (1. / args.weight_cent)
        optimizer_centloss.step()

        xent_losses.update(loss_xent.item(), labels.size(0))
        cent_losses.update(loss_cent.item(), labels.size(0))
    print("XentLoss {:.4f} CenterLoss {:.4f}".format(xent_losses.avg, cent_losses.avg))


def test(model, loader):
    model.eval()
    correct, total = 0, 0
    with torch.no_grad():
        for data, labels in loader:
            _, outputs = model(data)
            predictions = outputs.argmax(1)
            total += labels.size(0)
            correct += (predictions == labels).sum().item()
    acc = correct * 100. / total
    return acc, 100. - acc


def main():
    args = Options()
    torch.manual_seed(args.seed)
    trainloader = DataLoader(Digits(True, transform=normalize), batch_size=args.batch_size, shuffle=True)
    testloader = DataLoader(Digits(False, transform=normalize), batch_size=100, shuffle=False)

    print("Creating model: cnn")
    model = ConvNet(num_classes=10)
    criterion_xent = nn.CrossEntropyLoss()
    criterion_cent = CenterLoss(num_classes=10, feat_dim=8)
    optimizer_model = torch.optim.SGD(model.parameters(), lr=args.lr_model, weight_decay=5e-04, momentum=0.9)
    optimizer_centloss = torch.optim.SGD(criterion_cent.parameters(), lr=args.lr_cent)
    scheduler = lr_scheduler.StepLR(optimizer_model, step_size=args.stepsize, gamma=args.gamma)

    start_time = time.time()
    for epoch in range(args.max_epoch):
        print("==> Epoch {}/{}".format(epoch + 1, args.max_epoch))
        train(model, criterion_xent, criterion_cent, optimizer_model, optimizer_centloss, trainloader, args)
        scheduler.step()
        acc, err = test(model, testloader)
        print("Accuracy (%): {:.2f}\t Error rate (%): {:.2f}".format(acc, err))
    elapsed = str(datetime.timedelta(seconds=round(time.time() - start_time)))
    print("Finished. Total elapsed time (h:m:s): {}".format(elapsed))


if __name__ == "__main__":
    main()
