import time

import torch
import torch.utils.data
from toydata import Shapes
from torch import nn


class ExponentialMovingAverage(torch.optim.swa_utils.AveragedModel):
    def __init__(self, model, decay, device="cpu"):
        def ema_avg(avg_model_param, model_param, num_averaged):
            return decay * avg_model_param + (1 - decay) * model_param

        super().__init__(model, device, ema_avg, use_buffers=True)


class MetricLogger:
    def __init__(self):
        self.meters = {}

    def update(self, **kwargs):
        for k, v in kwargs.items():
            total, count = self.meters.get(k, (0.0, 0))
            self.meters[k] = (total + float(v), count + 1)

    def log_every(self, iterable, print_freq, header):
        start = time.time()
        for i, obj in enumerate(iterable):
            yield obj
            if i % print_freq == 0:
                print(header, i, {k: t / c for k, (t, c) in self.meters.items()}, time.time() - start)


class SmallResNet(nn.Module):
    def __init__(self, num_classes=6):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.conv1, self.bn1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.down = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(2), nn.Linear(128, num_classes)

    def forward(self, x):
        x = self.stem(x)
        out = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(x + self.bn2(self.conv2(out)))
        return self.fc(torch.flatten(self.pool(torch.relu(self.down(x))), 1))


def train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, model_ema=None):
    model.train()
    metric_logger = MetricLogger()
    for i, (image, target) in enumerate(metric_logger.log_every(data_loader, 10, f"Epoch: [{epoch}]")):
        image, target = image.to(device), target.to(device)
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if model_ema and i % 2 == 0:
            model_ema.update_parameters(model)
        metric_logger.update(loss=loss.item(), lr=optimizer.param_groups[0]["lr"])


def evaluate(model, criterion, data_loader, device):
    model.eval()
    correct = num_processed = 0
    with torch.inference_mode():
        for image, target in data_loader:
            image, target = image.to(device), target.to(device)
            output = model(image)
            correct += (output.argmax(1) == target).sum().item()
            num_processed += image.shape[0]
    return correct / num_processed


def main():
    torch.manual_seed(1)
    device = torch.device("cpu")
    dataset, dataset_test = Shapes(train=True), Shapes(train=False)
    train_sampler = torch.utils.data.RandomSampler(dataset)
    test_sampler = torch.utils.data.SequentialSampler(dataset_test)
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=32, sampler=train_sampler, pin_memory=False)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=64, sampler=test_sampler)
    model = SmallResNet().to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)
    warmup_lr_scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    main_lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer, schedulers=[warmup_lr_scheduler, main_lr_scheduler], milestones=[2]
    )
    model_ema = ExponentialMovingAverage(model, decay=0.9, device=device)
    for epoch in range(8):
        train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, model_ema)
        lr_scheduler.step()
        acc = evaluate(model, criterion, data_loader_test, device)
        acc_ema = evaluate(model_ema, criterion, data_loader_test, device)
        print(f"Test: acc {acc:.3f} EMA acc {acc_ema:.3f}")


if __name__ == "__main__":
    main()
