"""Knowledge distillation (after the PyTorch tutorial): a teacher is trained, then teaches a small student."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(0)
torch.set_num_threads(1)
device = "cpu"


def load(count, seed):
    images, labels = draw_digits(count, seed=seed, noise=0.15)
    return TensorDataset((images.float() / 255 - 0.2) / 0.3, labels)


train_loader = DataLoader(load(1000, seed=31), batch_size=32, shuffle=True)
test_loader = DataLoader(load(300, seed=32), batch_size=100, shuffle=False)


class DeepNN(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 24, kernel_size=3, padding=1), nn.ReLU(),
            nn.Conv2d(24, 24, kernel_size=3, padding=1), nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
            nn.Conv2d(24, 48, kernel_size=3, padding=1), nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
        )
        self.classifier = nn.Sequential(nn.Linear(768, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, num_classes))

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


class LightNN(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=3, padding=1), nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
            nn.Conv2d(8, 16, kernel_size=3, padding=1), nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
        )
        self.classifier = nn.Sequential(nn.Linear(256, 48), nn.ReLU(), nn.Linear(48, num_classes))

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def test(model, test_loader, device):
    model.to(device)
    model.eval()
    correct = 0
    total = 0
    with torch.no_grad():
        for inputs, labels in test_loader:
            inputs, labels = inputs.to(device), labels.to(device)
            _, predicted = torch.max(model(inputs), 1)
            total += labels.size(0)
            correct += (predicted == labels).sum().item()
    return 100 * correct / total


def train(model, train_loader, epochs, learning_rate, device):
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=learning_rate)
    for epoch in range(epochs):
        model.train()
        running_loss = 0.0
        for inputs, labels in train_loader:
            inputs, labels = inputs.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        print(f"Teacher epoch {epoch + 1}/{epochs}, Loss: {running_loss / len(train_loader):.4f}, "
              f"Test accuracy: {test(model, test_loader, device):.2f}%")


def train_knowledge_distillation(teacher, student, train_loader, epochs, learning_rate, T, soft_weight, ce_weight, device):
    ce_loss = nn.CrossEntropyLoss()
    optimizer = optim.Adam(student.parameters(), lr=learning_rate)
    teacher.eval()
    for epoch in range(epochs):
        student.train()
        running_loss = 0.0
        for inputs, labels in train_loader:
            inputs, labels = inputs.to(device), labels.to(device)
            optimizer.zero_grad()
            with torch.no_grad():
                teacher_logits = teacher(inputs)
            student_logits = student(inputs)
            soft_targets = F.softmax(teacher_logits / T, dim=-1)
            soft_prob = F.log_softmax(student_logits / T, dim=-1)
            soft_targets_loss = F.kl_div(soft_prob, soft_targets, reduction="batchmean") * T**2
            label_loss = ce_loss(student_logits, labels)
            loss = soft_weight * soft_targets_loss + ce_weight * label_loss
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        print(f"Student epoch {epoch + 1}/{epochs}, Loss: {running_loss / len(train_loader):.4f}, "
              f"Test accuracy: {test(student, test_loader, device):.2f}%")


nn_deep = DeepNN(num_classes=10).to(device)
train(nn_deep, train_loader, epochs=8, learning_rate=0.001, device=device)

new_nn_light = LightNN(num_classes=10).to(device)
train_knowledge_distillation(
    teacher=nn_deep, student=new_nn_light, train_loader=train_loader, epochs=14,
    learning_rate=0.002, T=2, soft_weight=0.5, ce_weight=0.5, device=device,
)
print(f"Teacher accuracy: {test(nn_deep, test_loader, device):.2f}%")
print(f"Student accuracy: {test(new_nn_light, test_loader, device):.2f}%")
