import torch
import torch.nn as nn
from torch.utils.data import DataLoader
from toydata import Shapes

torch.manual_seed(0)
device = "cpu"
train_loader = DataLoader(Shapes(train=True), batch_size=32, shuffle=True)
val_loader = DataLoader(Shapes(train=False), batch_size=80)
net = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1, bias=False),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(512, 6),
)
opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
loss_fn = nn.CrossEntropyLoss()
scaler = torch.amp.GradScaler(device, init_scale=1024.0)

for epoch in range(4):
    net.train()
    for input, target in train_loader:
        opt.zero_grad()
        with torch.autocast(device_type=device, dtype=torch.bfloat16):
            output = net(input)
            loss = loss_fn(output, target)
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        torch.nn.utils.clip_grad_norm_(net.parameters(), max_norm=1.0)
        scaler.step(opt)
        scaler.update()
    net.eval()
    hits = 0
    with torch.no_grad(), torch.autocast(device_type=device, dtype=torch.bfloat16):
        for input, target in val_loader:
            hits += (net(input).argmax(1) == target).sum().item()
    print(f"epoch {epoch} loss {loss.item():.3f} accuracy {hits / len(val_loader.dataset):.3f}")
