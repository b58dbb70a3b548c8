import torch
from toydata import Digits
from torch import nn
from torch.utils.data import DataLoader

torch.manual_seed(5)
batch_size, num_epochs, use_amp = 40, 3, True


def to_tensor(image):
    return image.to(torch.float32) / 255.0


train_dl = DataLoader(Digits(train=True, transform=to_tensor), batch_size=batch_size, shuffle=True)
valid_dl = DataLoader(Digits(train=False, transform=to_tensor), batch_size=batch_size)


def make_model(in_size, out_size, num_layers):
    layers = [nn.Flatten(), nn.Linear(in_size, 96), nn.ReLU()]
    for _ in range(num_layers - 1):
        layers += [nn.Linear(96, 96), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(96, out_size))


net = make_model(256, 10, 2)
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
loss_fn = nn.CrossEntropyLoss()
scaler = torch.amp.GradScaler("cpu", enabled=use_amp)
for epoch in range(num_epochs):
    net.train()
    for input, target in train_dl:
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16, enabled=use_amp):
            output = net(input)
            loss = loss_fn(output, target)
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
        opt.zero_grad()
    net.eval()
    right = torch.tensor(0)
    with torch.no_grad():
        for input, target in valid_dl:
            right += (net(input).argmax(-1) == target).sum()
    print("epoch", epoch, loss.item(), right.item() / len(valid_dl.dataset))
