"""Behavioral cloning: the steering angle from frames of one camera, with a small PilotNet."""

import argparse
import csv
import math
import os
import random
import tempfile

import numpy as np
import torch
from PIL import Image
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset

HEIGHT, WIDTH = 40, 64


def render(angle, offset, light, rng):
    """A road that bends by `angle`, seen from a car that is `offset` off its middle."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    image[:14] = (0.45, 0.6, 0.9)
    image[14:] = (0.3, 0.55, 0.2)
    columns = np.arange(WIDTH)
    for row in range(14, HEIGHT):
        far = (HEIGHT - 1 - row) / (HEIGHT - 15)
        middle = WIDTH / 2 + 8 * offset * (1 - far) + 20 * angle * far**2
        half = 4 + 16 * (1 - far)
        road = np.abs(columns - middle) < half
        image[row, road] = (0.4, 0.4, 0.42)
        image[row, np.abs(np.abs(columns - middle) - half) < 1.2] = (0.9, 0.85, 0.2)
    image = image * light + 0.05 * rng.standard_normal(image.shape)
    return Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8))


def record_drives(folder, drives=40, frames=15, seed=3):
    """Writes IMG/*.jpg and driving_log.csv, as the simulator does."""
    rng = np.random.default_rng(seed)
    os.makedirs(os.path.join(folder, "IMG"))
    with open(os.path.join(folder, "driving_log.csv"), "w", newline="") as file:
        log = csv.writer(file)
        log.writerow(["center", "drive", "steering", "wheel_ticks", "speed"])
        for drive in range(drives):
            light = rng.uniform(0.7, 1.1)
            bend = rng.normal(0.15, 0.3)
            for frame in range(frames):
                angle = float(np.clip(bend + rng.normal(0, 0.3), -1, 1))
                offset = rng.uniform(-1, 1)
                name = f"center_{drive:03d}_{frame:03d}.jpg"
                render(angle, offset, light, rng).save(os.path.join(folder, "IMG", name), quality=92)
                log.writerow([name, drive, f"{angle:.4f}", f"{angle * 4500:.0f}", f"{rng.uniform(5, 30):.2f}"])


def read_log(folder):
    with open(os.path.join(folder, "driving_log.csv")) as file:
        return list(csv.DictReader(file))


def balance(samples, limit=0.5, copies=2):
    """Sharp bends are rare: they are repeated."""
    result = []
    for sample in samples:
        result.extend([sample] * (copies if abs(float(sample["steering"])) > limit else 1))
    return result


def split_by_drive(samples, fraction=0.25):
    drives = sorted({s["drive"] for s in samples})
    random.shuffle(drives)
    held_out = set(drives[: int(len(drives) * fraction)])
    return [s for s in samples if s["drive"] not in held_out], [s for s in samples if s["drive"] in held_out]


def load_image(path, mode="YCbCr"):
    image = Image.open(path).convert("RGB").convert(mode)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    return pixels[:, 12:, :] / 127.5 - 1.0


class DrivingDataset(Dataset):
    def __init__(self, folder, samples, augment=False):
        self.folder, self.samples, self.augment = folder, samples, augment

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = self.samples[index]
        path = os.path.join(self.folder, "IMG", sample["center"])
        angle = float(sample["steering"])
        if self.augment:
            image = load_image(path)
            if random.random() < 0.5:
                image = torch.flip(image, dims=[2])
                angle = -angle
            image = image + random.uniform(-0.1, 0.1)
        else:
            image = load_image(path)
        return image, torch.tensor(angle, dtype=torch.float32)


class PilotNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2), nn.ELU(),
            nn.Conv2d(12, 18, 3, stride=2), nn.ELU(),
            nn.Conv2d(18, 24, 3), nn.ELU(),
        )
        self.regressor = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.1), nn.Linear(24 * 3 * 12, 64), nn.ELU(), nn.Linear(64, 10), nn.ELU(), nn.Linear(10, 1)
        )

    def forward(self, x):
        return self.regressor(self.features(x))


def train_epoch(model, loader, criterion, optimizer):
    model.train()
    total = 0.0
    for images, angles in loader:
        optimizer.zero_grad()
        prediction = model(images).squeeze(1)
        loss = criterion(prediction, angles)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
    return total / len(loader.dataset)


@torch.no_grad()
def validate(model, loader):
    model.eval()
    predictions = torch.cat([model(images).flatten() for images, _ in loader])
    angles = torch.cat([angles for _, angles in loader])
    rmse = math.sqrt((predictions - angles).pow(2).mean())
    r2 = 1 - (predictions - angles).pow(2).sum() / (angles - angles.mean()).pow(2).sum()
    return rmse, r2.item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    with tempfile.TemporaryDirectory() as scratch:
        folder = args.data_dir
        if folder is None:
            folder = os.path.join(scratch, "drives")
            record_drives(folder)
        samples = read_log(folder)
        train_samples, valid_samples = split_by_drive(samples)
        train_samples = balance(train_samples)
        print(f"{len(train_samples)} training frames, {len(valid_samples)} validation frames")

        train_loader = DataLoader(DrivingDataset(folder, train_samples, augment=True), args.batch_size, shuffle=True)
        valid_loader = DataLoader(DrivingDataset(folder, valid_samples), 64)

        model = PilotNet()
        optimizer = optim.Adam(model.parameters(), lr=args.lr)
        criterion = nn.MSELoss()
        best = float("inf")
        for epoch in range(1, args.epochs + 1):
            loss = train_epoch(model, train_loader, criterion, optimizer)
            rmse, r2 = validate(model, valid_loader)
            print(f"epoch {epoch:2d}: train mse {loss:.5f}, valid rmse {rmse:.4f}, r2 {r2:.3f}")
            if rmse < best:
                best = rmse
                torch.save(model.state_dict(), os.path.join(scratch, "model.pt"))
        model.load_state_dict(torch.load(os.path.join(scratch, "model.pt")))
        print("best model: rmse %.4f, r2 %.3f" % validate(model, valid_loader))


if __name__ == "__main__":
    main()
