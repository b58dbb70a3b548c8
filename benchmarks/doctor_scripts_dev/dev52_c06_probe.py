# Autoencoder for small shape images + a linear probe that is trained along the way.
# The probe must not change the code: it sees a detached copy and has an optimizer of its own.

# In [1]
import torch
from torch import nn
from toydata import Shapes

torch.manual_seed(7)

# In [2]
train_set, val_set = Shapes(train=True), Shapes(train=False)
X = torch.stack(train_set.images)
X_val = torch.stack(val_set.images)
# names 0-2 are red, 3-5 are blue
color = torch.tensor(train_set.targets) // 3
color_val = torch.tensor(val_set.targets) // 3
print(X.shape, X_val.shape, color.float().mean())

# In [3]
latent = 32

encoder = nn.Sequential(
    nn.Conv2d(3, 24, 3, stride=2, padding=1),
    nn.LeakyReLU(0.1),
    nn.Conv2d(24, 48, 3, stride=2, padding=1),
    nn.LeakyReLU(0.1),
    nn.Flatten(),
    nn.Linear(48 * 4 * 4, latent),
)
decoder = nn.Sequential(
    nn.Linear(latent, 48 * 4 * 4),
    nn.LeakyReLU(0.1),
    nn.Unflatten(1, (48, 4, 4)),
    nn.ConvTranspose2d(48, 24, 4, stride=2, padding=1),
    nn.LeakyReLU(0.1),
    nn.ConvTranspose2d(24, 3, 4, stride=2, padding=1),
    nn.Sigmoid(),
)
probe = nn.Linear(latent, 2)

# In [4]
autoencoder_parameters = list(encoder.parameters()) + list(decoder.parameters())
opt_ae = torch.optim.Adam(autoencoder_parameters, lr=2e-3)
opt_probe = torch.optim.SGD(probe.parameters(), lr=0.05, momentum=0.9)
reconstruction_loss = nn.MSELoss()
classification_loss = nn.CrossEntropyLoss()


def center(images):
    """Gray ground to zero: what the encoder is given."""
    return (images - 0.5) * 5


# In [5]
batch_size, epochs = 45, 24
history = {"reconstruction": [], "probe": [], "val_mse": [], "val_probe": []}

for epoch in range(epochs):
    encoder.train(), decoder.train(), probe.train()
    order = torch.randperm(len(X))
    sum_rec, sum_probe = torch.zeros(()), torch.zeros(())
    for index in order.split(batch_size):
        x, c = X[index], color[index]
        z = encoder(center(x))

        rec = reconstruction_loss(decoder(z), x)
        opt_ae.zero_grad()
        rec.backward()
        opt_ae.step()

        guess = classification_loss(probe(z.detach()), c)
        opt_probe.zero_grad()
        guess.backward()
        opt_probe.step()

        sum_rec += rec.detach() * len(index)
        sum_probe += guess.detach() * len(index)

    encoder.eval(), decoder.eval(), probe.eval()
    with torch.no_grad():
        z_val = encoder(center(X_val))
        val_mse = ((decoder(z_val) - X_val) ** 2).mean()
        val_probe = (probe(z_val).argmax(1) == color_val).float().mean()
    history["reconstruction"].append(float(sum_rec) / len(X))
    history["probe"].append(float(sum_probe) / len(X))
    history["val_mse"].append(float(val_mse))
    history["val_probe"].append(float(val_probe))
    if epoch % 4 == 3:
        print(f"{epoch + 1:3d}", {name: round(values[-1], 4) for name, values in history.items()})

# In [6]
# How much better than always giving the mean image of the training set?
baseline = ((X.mean(0) - X_val) ** 2).mean()
print(f"mean image: {baseline:.4f}   autoencoder: {history['val_mse'][-1]:.4f}")

# In [7]
# Neighbors in the code: mostly of the same color, if the code is any good.
with torch.no_grad():
    codes, codes_val = encoder(center(X)), encoder(center(X_val))
nearest = torch.cdist(codes_val, codes).argmin(dim=1)
print(f"same color as the nearest neighbor: {(color[nearest] == color_val).float().mean():.3f}")
