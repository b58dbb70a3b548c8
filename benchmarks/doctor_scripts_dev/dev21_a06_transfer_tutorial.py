# Transfer Learning for Computer Vision, after the PyTorch tutorial: ConvNet as fixed feature extractor.
# A network that knows ten digits (pretrained below, since nothing is downloaded) sorts noisy scans into five drawers.

# %%
import os
import time
from tempfile import TemporaryDirectory

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset, TensorDataset

from toydata import draw_digits

torch.manual_seed(0)
torch.set_num_threads(1)
device = torch.device("cpu")
mean, std = 0.17, 0.31


# %%
class SmallNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.avgpool(self.features(x))
        return self.fc(torch.flatten(x, 1))


# %% [markdown]
# ## Pretraining: ten digits. The checkpoint is as DataParallel saves it, with "module." before each name.

# %%
def pretrain(path, epochs=12):
    images, labels = draw_digits(3000, seed=3, noise=0.15)
    inputs = (images.float() / 255 - mean) / std
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=50, shuffle=True)
    net = SmallNet(num_classes=10)
    opt = optim.Adam(net.parameters(), lr=2e-3)
    net.train()
    for epoch in range(epochs):
        right = 0
        for x, y in loader:
            opt.zero_grad()
            out = net(x)
            nn.functional.cross_entropy(out, y).backward()
            opt.step()
            right += (out.argmax(1) == y).sum().item()
        print(f"pretraining {epoch + 1}/{epochs}  train acc {right / len(inputs):.4f}")
    torch.save({"arch": "smallnet", "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, path)


# %% [markdown]
# ## Load Data

# %%
class Scans(Dataset):
    """Noisy digits; the class is the drawer they go to."""
    classes = ["drawer 0/5", "drawer 1/6", "drawer 2/7", "drawer 3/8", "drawer 4/9"]

    def __init__(self, count, seed, transform):
        self.images, digits = draw_digits(count, seed=seed, noise=0.2)
        self.targets = (digits % 5).tolist()
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.targets[index]


def to_tensor(image):
    return image.float() / 255


def normalize(image):
    return (image - mean) / std


def random_shift(image):
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    return image.roll((dy, dx), dims=(1, 2))


def compose(*steps):
    def apply(image):
        for step in steps:
            image = step(image)
        return image
    return apply


data_transforms = {
    'train': compose(random_shift, to_tensor, normalize),
    'val': compose(to_tensor, normalize),
}
image_datasets = {'train': Scans(500, seed=4, transform=data_transforms['train']),
                  'val': Scans(400, seed=5, transform=data_transforms['val'])}
dataloaders = {x: DataLoader(image_datasets[x], batch_size=20, shuffle=(x == 'train')) for x in ['train', 'val']}
dataset_sizes = {x: len(image_datasets[x]) for x in ['train', 'val']}
class_names = image_datasets['train'].classes


# %% [markdown]
# ## Training the model

# %%
def train_model(model, criterion, optimizer, scheduler, num_epochs=25):
    since = time.time()
    with TemporaryDirectory() as tempdir:
        best_model_params_path = os.path.join(tempdir, 'best_model_params.pt')
        torch.save(model.state_dict(), best_model_params_path)
        best_acc = 0.0

        for epoch in range(num_epochs):
            print(f'Epoch {epoch}/{num_epochs - 1}')
            print('-' * 10)
            for phase in ['train', 'val']:
                if phase == 'train':
                    model.train()
                else:
                    model.eval()
                running_loss = 0.0
                running_corrects = 0

                for inputs, labels in dataloaders[phase]:
                    inputs, labels = inputs.to(device), labels.to(device)
                    optimizer.zero_grad()
                    with torch.set_grad_enabled(phase == 'train'):
                        outputs = model(inputs)
                        _, preds = torch.max(outputs, 1)
                        loss = criterion(outputs, labels)
                        if phase == 'train':
                            loss.backward()
                            optimizer.step()
                    running_loss += loss.item() * inputs.size(0)
                    running_corrects += torch.sum(preds == labels.data)
                if phase == 'train':
                    scheduler.step()

                epoch_loss = running_loss / dataset_sizes[phase]
                epoch_acc = running_corrects.double() / dataset_sizes[phase]
                print(f'{phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}')
                if phase == 'val' and epoch_acc > best_acc:
                    best_acc = epoch_acc
                    torch.save(model.state_dict(), best_model_params_path)
            print()

        time_elapsed = time.time() - since
        print(f'Training complete in {time_elapsed // 60:.0f}m {time_elapsed % 60:.0f}s')
        print(f'Best val Acc: {best_acc:4f}')
        model.load_state_dict(torch.load(best_model_params_path, weights_only=True))
    return model


# %% [markdown]
# ## ConvNet as fixed feature extractor

# %%
with TemporaryDirectory() as folder:
    checkpoint_path = os.path.join(folder, 'digits.pth')
    pretrain(checkpoint_path)
    checkpoint = torch.load(checkpoint_path, weights_only=True)

model_conv = SmallNet(num_classes=10)
state_dict = {k.removeprefix('module.'): v for k, v in checkpoint['state_dict'].items()}
model_conv.load_state_dict(state_dict)
for param in model_conv.parameters():
    param.requires_grad = False

# Parameters of newly constructed modules have requires_grad=True by default
num_ftrs = model_conv.fc.in_features
model_conv.fc = nn.Linear(num_ftrs, len(class_names))
model_conv = model_conv.to(device)

criterion = nn.CrossEntropyLoss()
# Only parameters of the final layer are being optimized
optimizer_conv = optim.SGD(model_conv.fc.parameters(), lr=0.1, momentum=0.9)
# Decay LR by a factor of 0.3 every 10 epochs
exp_lr_scheduler = lr_scheduler.StepLR(optimizer_conv, step_size=10, gamma=0.3)

# %%
model_conv = train_model(model_conv, criterion, optimizer_conv, exp_lr_scheduler, num_epochs=30)
