import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(11)
digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
counts = F.one_hot(torch.tensor(digits.target), 10).float()
soft = 0.9 * counts + 0.1 / 10  # annotators disagree on one in ten
train_loader = DataLoader(TensorDataset(x[:1400], soft[:1400]), batch_size=40, shuffle=True)
test_loader = DataLoader(TensorDataset(x[1400:], soft[1400:]), batch_size=80)

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
    nn.Linear(128, 10),
)  # fmt: skip
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for epoch in range(5):
    model.train()
    for images, wanted in train_loader:
        log_q = F.log_softmax(model(images), dim=1)
        loss = F.kl_div(log_q, wanted, reduction="batchmean")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = sum((model(a).argmax(1) == b.argmax(1)).sum().item() for a, b in test_loader)
    print(f"epoch {epoch} loss {loss.item():.4f} accuracy {right / 397:.3f}")
