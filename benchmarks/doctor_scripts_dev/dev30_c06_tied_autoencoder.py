"""Autoencoder of digits whose decoder uses the encoder's weights, transposed (tied weights)."""

import torch
from torch import nn
import torch.nn.functional as F

from toydata import draw_digits

torch.manual_seed(0)

EPOCHS, BATCH = 24, 64


class TiedAutoencoder(nn.Module):
    def __init__(self, sizes=(256, 160, 32)):
        super().__init__()
        self.weights = nn.ParameterList()
        self.encoder_biases = nn.ParameterList()
        self.decoder_biases = nn.ParameterList()
        for inputs, outputs in zip(sizes[:-1], sizes[1:]):
            weight = torch.empty(outputs, inputs)
            nn.init.xavier_uniform_(weight)
            self.weights.append(nn.Parameter(weight))
            self.encoder_biases.append(nn.Parameter(torch.zeros(outputs)))
            self.decoder_biases.append(nn.Parameter(torch.zeros(inputs)))

    def encode(self, x):
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.encoder_biases)):
            x = F.linear(x, weight, bias)
            if i < last:
                x = F.elu(x)
        return x

    def decode(self, code):
        x = code
        for i in reversed(range(len(self.weights))):
            x = F.linear(x, self.weights[i].t(), self.decoder_biases[i])
            if i > 0:
                x = F.elu(x)
        return x  # logits of pixels

    def forward(self, x):
        return self.decode(self.encode(x))


def pixels(count, seed):
    images, _ = draw_digits(count, seed=seed, noise=0.05)
    return images.flatten(1).float() / 255


train, val = pixels(2400, 0), pixels(400, 1)
mean_image = train.mean(0)
baseline = ((val - mean_image) ** 2).mean().item()

model = TiedAutoencoder()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[16, 21], gamma=0.3)
loss_function = nn.BCEWithLogitsLoss()


def reconstruct(x):
    model.eval()
    with torch.no_grad():
        return torch.sigmoid(model(x))


print(f"mean image: mse {baseline:.5f}")
for epoch in range(EPOCHS):
    model.train()
    losses = []
    for index in torch.randperm(len(train)).split(BATCH):
        x = train[index]
        loss = loss_function(model(x - mean_image), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    scheduler.step()
    error = ((reconstruct(val - mean_image) - val) ** 2).mean().item()
    print(
        f"epoch {epoch:2d}  bce {sum(losses) / len(losses):.4f}  val mse {error:.5f}  "
        f"explained {1 - error / baseline:.3f}"
    )

codes = model.encode(val - mean_image).detach()
print("spread of codes:", codes.std(0).mean().item())
