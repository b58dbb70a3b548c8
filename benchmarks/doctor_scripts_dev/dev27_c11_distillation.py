"""Knowledge distillation: a wide teacher, then a narrow student that learns from its soft answers. Written with closures."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


def make_net(width):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * width * 16, 10))


def make_loaders(batch_size=40):
    (xt, yt), (xv, yv) = draw_digits(1200, seed=60, noise=0.2), draw_digits(300, seed=61, noise=0.2)
    xt, xv = xt.float().div(255), xv.float().div(255)
    mean, std = xt.mean(), xt.std()
    train = TensorDataset((xt - mean) / std, yt)
    valid = TensorDataset((xv - mean) / std, yv)
    return DataLoader(train, batch_size, shuffle=True), DataLoader(valid, 150)


def make_evaluator(loader):
    @torch.inference_mode()
    def evaluate(net):
        net.eval()
        right = sum((net(x).argmax(1) == y).sum().item() for x, y in loader)
        return right / len(loader.dataset)

    return evaluate


def make_trainer(loader, evaluate):
    def fit(name, net, loss_of, epochs, lr):
        optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs=epochs, steps_per_epoch=len(loader))

        def step(x, y):
            optimizer.zero_grad()
            loss = loss_of(net, x, y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            return loss.item()

        for epoch in range(epochs):
            net.train()
            losses = [step(x, y) for x, y in loader]
            print(f"{name} {epoch:2d} loss {sum(losses) / len(losses):.4f} val acc {evaluate(net):.4f}")
        return net

    return fit


def hard_loss(net, x, y):
    return F.cross_entropy(net(x), y)


def make_distillation_loss(teacher, temperature=3.0, alpha=0.7):
    teacher.eval()
    for p in teacher.parameters():
        p.requires_grad_(False)

    def loss_of(net, x, y):
        student_logits = net(x)
        with torch.no_grad():
            teacher_logits = teacher(x)
        soft = F.kl_div(F.log_softmax(student_logits / temperature, dim=1),
                        F.softmax(teacher_logits / temperature, dim=1),
                        reduction="batchmean") * temperature ** 2
        return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, y)

    return loss_of


def count(net):
    return sum(p.numel() for p in net.parameters())


if __name__ == "__main__":
    torch.manual_seed(5)
    train_loader, valid_loader = make_loaders()
    evaluate = make_evaluator(valid_loader)
    fit = make_trainer(train_loader, evaluate)
    teacher = fit("teacher", make_net(24), hard_loss, epochs=12, lr=3e-3)
    student = make_net(8)
    print(f"teacher {count(teacher)} parameters, student {count(student)}")
    fit("student", student, make_distillation_loss(teacher), epochs=20, lr=8e-3)
    print(f"teacher {evaluate(teacher):.4f} student {evaluate(student):.4f}")
