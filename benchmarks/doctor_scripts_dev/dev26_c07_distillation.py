"""Knowledge distillation: a wide teacher is trained first, then a narrow student learns from its softened outputs."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Shapes

CONFIG = {
    "seed": 5,
    "batch_size": 64,
    "teacher": {"width": 32, "epochs": 10, "lr": 2e-3},
    "student": {"width": 12, "epochs": 16, "lr": 3e-3},
    "temperature": 4.0,
    "alpha": 0.7,
}


def make_net(width, classes=6):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )


class Trainer:
    """Trains `model` with `compute_loss`, keeps the best weights."""

    def __init__(self, model, train_loader, valid_loader, epochs, lr, name):
        self.model, self.name, self.epochs = model, name, epochs
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=epochs // 2, gamma=0.2)
        self.best_accuracy, self.best_state = -1.0, None

    def compute_loss(self, images, labels):
        return F.cross_entropy(self.model(images), labels)

    def train(self):
        for epoch in range(1, self.epochs + 1):
            self.model.train()
            losses = []
            for images, labels in self.train_loader:
                loss = self.compute_loss(images, labels)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                losses.append(loss.item())
            self.scheduler.step()
            accuracy = self.evaluate()
            if accuracy > self.best_accuracy:
                self.best_accuracy = accuracy
                self.best_state = copy.deepcopy(self.model.state_dict())
            print(f"{self.name} epoch {epoch}: loss {sum(losses) / len(losses):.4f}, validation accuracy {accuracy:.4f}")
        self.model.load_state_dict(self.best_state)
        return self.model

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        right = total = 0
        for images, labels in self.valid_loader:
            right += (self.model(images).argmax(-1) == labels).sum().item()
            total += labels.size(0)
        return right / total


class DistillationTrainer(Trainer):
    def __init__(self, *args, teacher, temperature, alpha, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher = teacher.eval().requires_grad_(False)
        self.temperature, self.alpha = temperature, alpha

    def compute_loss(self, images, labels):
        with torch.no_grad():
            teacher_logits = self.teacher(images)
        student_logits = self.model(images)
        T = self.temperature
        soft_loss = F.kl_div(
            F.log_softmax(student_logits / T, dim=-1),
            F.softmax(teacher_logits / T, dim=-1),
            reduction="batchmean",
        )
        hard_loss = F.cross_entropy(student_logits, labels)
        return self.alpha * T * T * soft_loss + (1 - self.alpha) * hard_loss


def to_input(image):
    return (image - 0.5) / 0.2


def main():
    torch.manual_seed(CONFIG["seed"])
    train_set = Shapes(train=True, count=2000, transform=to_input)
    valid_set = Shapes(train=False, count=400, transform=to_input)
    train_loader = DataLoader(train_set, batch_size=CONFIG["batch_size"], shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_set, batch_size=200)

    options = CONFIG["teacher"]
    teacher = Trainer(
        make_net(options["width"]), train_loader, valid_loader, options["epochs"], options["lr"], "teacher"
    ).train()

    options = CONFIG["student"]
    student = DistillationTrainer(
        make_net(options["width"]),
        train_loader,
        valid_loader,
        options["epochs"],
        options["lr"],
        "student",
        teacher=teacher,
        temperature=CONFIG["temperature"],
        alpha=CONFIG["alpha"],
    )
    student.train()
    count = sum(p.numel() for p in student.model.parameters())
    print(f"student with {count} parameters: best validation accuracy {student.best_accuracy:.4f}")


if __name__ == "__main__":
    main()
