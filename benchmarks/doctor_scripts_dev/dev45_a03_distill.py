import argparse
import copy
import datetime
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

import toydata


def get_args_parser():
    parser = argparse.ArgumentParser(description="Knowledge distillation of a digit classifier", add_help=True)
    parser.add_argument("-b", "--batch-size", default=64, type=int)
    parser.add_argument("--val-batch-size", default=128, type=int)
    parser.add_argument("--teacher-epochs", default=5, type=int)
    parser.add_argument("--epochs", default=10, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--momentum", default=0.9, type=float)
    parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, dest="weight_decay")
    parser.add_argument("--lr-step-size", default=7, type=int, help="decrease lr every step-size epochs")
    parser.add_argument("--lr-gamma", default=0.1, type=float)
    parser.add_argument("--mixup-alpha", default=0.2, type=float)
    parser.add_argument("--temperature", default=3.0, type=float)
    parser.add_argument("--kd-weight", default=0.3, type=float)
    parser.add_argument("--model-ema-decay", default=0.95, type=float)
    parser.add_argument("--print-freq", default=10, type=int)
    parser.add_argument("--seed", default=0, type=int)
    return parser


def conv_bn(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


def build_model(width):
    return nn.Sequential(
        conv_bn(1, width),
        nn.MaxPool2d(2),
        conv_bn(width, 2 * width),
        nn.MaxPool2d(2),
        conv_bn(2 * width, 2 * width),
        nn.Flatten(),
        nn.Linear(2 * width * 4 * 4, 10),
    )


def preset(image):
    return (image.float() / 255 - 0.17) / 0.3


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for averaged, current in zip(self.module.state_dict().values(), model.state_dict().values()):
            if averaged.dtype.is_floating_point:
                averaged.mul_(self.decay).add_(current, alpha=1 - self.decay)
            else:
                averaged.copy_(current)


def mix(image, alpha):
    lam = float(np.random.beta(alpha, alpha))
    order = torch.randperm(image.size(0))
    return lam * image + (1 - lam) * image[order], order, lam


def distillation_loss(output, teacher_output, temperature):
    student = F.log_softmax(output / temperature, dim=1)
    teacher = F.softmax(teacher_output / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean") * temperature**2


def train_teacher(loader, args):
    teacher = build_model(24)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=2e-3)
    teacher.train()
    for _ in range(args.teacher_epochs):
        for image, target in loader:
            optimizer.zero_grad()
            F.cross_entropy(teacher(image), target).backward()
            optimizer.step()
    return teacher.eval().requires_grad_(False)


def train_one_epoch(model, teacher, optimizer, lr_scheduler, loader, epoch, args, model_ema):
    model.train()
    for i, (image, target) in enumerate(loader):
        image, order, lam = mix(image, args.mixup_alpha)
        output = model(image)
        with torch.no_grad():
            teacher_output = teacher(image)
        hard = lam * F.cross_entropy(output, target) + (1 - lam) * F.cross_entropy(output, target[order])
        soft = distillation_loss(output, teacher_output, args.temperature)
        loss = (1 - args.kd_weight) * hard + args.kd_weight * soft

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model_ema.update(model)

        if i % args.print_freq == 0:
            lr = optimizer.param_groups[0]["lr"]
            print(f"Epoch: [{epoch}] [{i}/{len(loader)}]  lr: {lr:.5f}  loss: {loss.item():.4f}")
    lr_scheduler.step()


def evaluate(model, loader, header):
    model.eval()
    correct, loss_sum = 0, 0.0
    with torch.inference_mode():
        for image, target in loader:
            output = model(image)
            loss_sum += F.cross_entropy(output, target, reduction="sum").item()
            correct += (output.argmax(1) == target).sum().item()
    acc1 = 100.0 * correct / len(loader.dataset)
    print(f"{header} Acc@1 {acc1:.3f}  loss {loss_sum / len(loader.dataset):.4f}")
    return acc1


def main(args):
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)

    dataset = toydata.Digits(train=True, transform=preset)
    dataset_test = toydata.Digits(train=False, transform=preset)
    data_loader = DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = DataLoader(dataset_test, batch_size=args.val_batch_size)

    teacher = train_teacher(data_loader, args)
    evaluate(teacher, data_loader_test, "Teacher:")

    model = build_model(8)
    model_ema = ModelEma(model, decay=args.model_ema_decay)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay
    )
    lr_scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=args.lr_step_size, gamma=args.lr_gamma)

    start_time = time.time()
    for epoch in range(args.epochs):
        train_one_epoch(model, teacher, optimizer, lr_scheduler, data_loader, epoch, args, model_ema)
        evaluate(model_ema.module, data_loader_test, "EMA Test:")
    print(f"Training time {datetime.timedelta(seconds=int(time.time() - start_time))}")


if __name__ == "__main__":
    main(get_args_parser().parse_args())
