import torch
import torch.nn as nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.data import DataLoader
from toydata import Shapes

torch.manual_seed(0)
loader = DataLoader(Shapes(train=True), batch_size=32, shuffle=True)
test_loader = DataLoader(Shapes(train=False), batch_size=120)


def conv_block(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))


model = nn.Sequential(conv_block(3, 16), conv_block(16, 32), nn.Flatten(), nn.Linear(512, 6))
ema_model = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.95))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
criterion = nn.CrossEntropyLoss()


def evaluate(network):
    network.eval()
    with torch.no_grad():
        rights = [(network(x).argmax(1) == y).float() for x, y in test_loader]
    return torch.cat(rights).mean().item()


for epoch in range(4):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
        ema_model.update_parameters(model)
    update_bn(loader, ema_model)
    print(epoch, "ema accuracy", evaluate(ema_model))
