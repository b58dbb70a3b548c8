# %% [markdown]
# # Odd signals
# A convolutional autoencoder learns three kinds of vibration; a fourth kind (chirps) shall be noticed, since
# it is reconstructed badly.

# %%
import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from torch.utils.data import DataLoader

from toydata import waves

torch.manual_seed(11)
CHIRP = 3
CODE = 10
EPOCHS = 30

# %% normal signals for training and validation, all kinds for the test
pool, kinds = waves(1500, length=64, seed=21)
normal = pool[kinds != CHIRP]
train_signals, valid_signals = normal[:800], normal[800:]
test_signals, test_kinds = waves(500, length=64, seed=22)
is_odd = (test_kinds == CHIRP).numpy()
print("train", tuple(train_signals.shape), "valid", tuple(valid_signals.shape), "odd in test", int(is_odd.sum()))

loader = DataLoader(train_signals, batch_size=32, shuffle=True)


# %%
class SignalAutoencoder(nn.Module):
    def __init__(self, code):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(1, 16, kernel_size=5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv1d(16, 32, kernel_size=5, stride=2, padding=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, code),
        )
        self.decoder = nn.Sequential(
            nn.Linear(code, 32 * 16),
            nn.ReLU(),
            nn.Unflatten(1, (32, 16)),
            nn.ConvTranspose1d(32, 16, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose1d(16, 1, kernel_size=4, stride=2, padding=1),
        )

    def encode(self, x):
        return self.encoder(x)

    def forward(self, x):
        return self.decoder(self.encode(x))


def reconstruction_errors(model, signals):
    model.eval()
    with torch.no_grad():
        recon = model(signals)
    return ((recon - signals) ** 2).mean(dim=(1, 2))


# %%
model = SignalAutoencoder(CODE)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.5)

history = {"train": [], "valid": []}
best_loss, best_weights = float("inf"), None
for epoch in range(EPOCHS):
    model.train()
    running = 0.0
    for batch in loader:
        recon = model(batch)
        loss = F.mse_loss(recon, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item() * len(batch)
    scheduler.step()
    valid_loss = reconstruction_errors(model, valid_signals).mean().item()
    history["train"].append(running / len(train_signals))
    history["valid"].append(valid_loss)
    if valid_loss < best_loss:
        best_loss = valid_loss
        best_weights = copy.deepcopy(model.state_dict())
    if epoch % 5 == 0 or epoch == EPOCHS - 1:
        print(f"epoch {epoch:2d}  train {history['train'][-1]:.4f}  valid {valid_loss:.4f}")

model.load_state_dict(best_weights)

# %% the limit comes from normal validation signals alone
limit = float(np.quantile(reconstruction_errors(model, valid_signals).numpy(), 0.98))
test_errors = reconstruction_errors(model, test_signals).numpy()
flagged = test_errors > limit
print(f"limit {limit:.4f}")
print(f"ROC AUC   {roc_auc_score(is_odd, test_errors):.4f}")
print(f"precision {precision_score(is_odd, flagged, zero_division=0):.4f}")
print(f"recall    {recall_score(is_odd, flagged):.4f}")

# %% how far apart the kinds lie in the code
with torch.no_grad():
    codes = model.encode(test_signals)
for kind in range(4):
    members = codes[test_kinds == kind]
    print(f"kind {kind}: {len(members)} signals, spread of codes {members.std(dim=0).mean():.3f}")
