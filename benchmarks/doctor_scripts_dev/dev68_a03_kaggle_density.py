import random
import tempfile

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import StratifiedKFold
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset

OUTPUT_DIR = tempfile.mkdtemp()


class CFG:
    seed = 42
    n_train = 1800
    n_test = 600
    size = 24
    n_fold = 3
    trn_fold = [0, 1]
    epochs = 10
    batch_size = 20
    gradient_accumulation_steps = 2
    max_grad_norm = 5.0
    lr = 5e-3
    weight_decay = 1e-4


def make_competition_data(n, seed):
    """Plates with red (healthy) and blue (dead) colonies and the score, 1 to 100, that the lab gave them."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:CFG.size, 0:CFG.size]
    images, scores = [], []
    for _ in range(n):
        n_red, n_blue = rng.integers(0, 9), rng.integers(0, 6)
        img = np.ones((CFG.size, CFG.size, 3)) * rng.uniform(100, 150)
        for color in [(200, 60, 60)] * n_red + [(60, 60, 200)] * n_blue:
            cy, cx = rng.uniform(2, CFG.size - 2, 2)
            blob = np.exp(-((yy - cy) ** 2 + (xx - cx) ** 2) / (2 * rng.uniform(1.0, 2.0) ** 2))[..., None]
            img = img * (1 - blob) + np.array(color) * blob
        img = img * rng.uniform(0.8, 1.2) + rng.normal(0, 12, img.shape)
        images.append(img.clip(0, 255).astype(np.uint8))
        scores.append(np.clip(25 + 9 * n_red - 5 * n_blue + rng.normal(0, 3), 1, 100))
    return np.stack(images), np.array(scores)


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for t in self.transforms:
            image = t(image)
        return {'image': image}


class RandomFlip:
    def __call__(self, image):
        return np.flip(image, axis=random.choice([0, 1])) if random.random() < 0.5 else image


class RandomRotate90:
    def __call__(self, image):
        return np.rot90(image, random.randint(0, 3))


class Normalize:
    def __init__(self, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
        self.mean, self.std = np.array(mean, dtype=np.float32), np.array(std, dtype=np.float32)

    def __call__(self, image):
        return (image.astype(np.float32) / 255.0 - self.mean) / self.std


class ToTensor:
    def __call__(self, image):
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def get_transforms(data):
    if data == 'train':
        return Compose([RandomFlip(), RandomRotate90(), Normalize(), ToTensor()])
    return Compose([Normalize(), ToTensor()])


class PlateDataset(Dataset):
    def __init__(self, images, scores=None, transform=None):
        self.images = images
        self.labels = scores / 100.0 if scores is not None else np.zeros(len(images))
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.transform(image=self.images[idx])['image']
        return image, torch.tensor(self.labels[idx], dtype=torch.float32)


def conv_block(in_ch, out_ch, stride):
    return nn.Sequential(nn.Conv2d(in_ch, out_ch, 3, stride, 1, bias=False), nn.BatchNorm2d(out_ch), nn.SiLU())


class PlateModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(conv_block(3, 16, 1), conv_block(16, 32, 2), conv_block(32, 64, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(64, 1)

    def forward(self, x):
        features = self.pool(self.backbone(x)).flatten(1)
        return self.fc(self.dropout(features))


def get_score(y_true, y_pred):
    return mean_squared_error(y_true, y_pred) ** 0.5


def train_fn(train_loader, model, criterion, optimizer, scheduler, epoch):
    model.train()
    running = 0.0
    for step, (images, labels) in enumerate(train_loader):
        y_preds = model(images)
        loss = criterion(y_preds.view(-1), labels)
        running += loss.item()
        loss = loss / CFG.gradient_accumulation_steps
        loss.backward()
        if (step + 1) % CFG.gradient_accumulation_steps == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
    return running / len(train_loader)


def inference(loader, model):
    model.eval()
    preds = []
    for images, _ in loader:
        with torch.no_grad():
            y_preds = model(images)
        preds.append(y_preds.sigmoid().squeeze(1).numpy() * 100.0)
    return np.concatenate(preds)


def train_loop(images, scores, trn_idx, val_idx, fold):
    train_loader = DataLoader(PlateDataset(images[trn_idx], scores[trn_idx], get_transforms('train')),
                              batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(PlateDataset(images[val_idx], scores[val_idx], get_transforms('valid')),
                              batch_size=CFG.batch_size * 4, shuffle=False)
    model = PlateModel()
    optimizer = AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    steps_per_epoch = len(train_loader) // CFG.gradient_accumulation_steps
    scheduler = OneCycleLR(optimizer, max_lr=CFG.lr, epochs=CFG.epochs, steps_per_epoch=steps_per_epoch)
    criterion = nn.BCEWithLogitsLoss()

    best_score = np.inf
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler, epoch)
        preds = inference(valid_loader, model)
        score = get_score(scores[val_idx], preds)
        print(f'Epoch {epoch + 1} - avg_train_loss: {avg_loss:.4f}  RMSE: {score:.3f}')
        if score < best_score:
            best_score = score
            torch.save({'model': model.state_dict(), 'preds': preds}, f'{OUTPUT_DIR}/fold{fold}_best.pth')
    return torch.load(f'{OUTPUT_DIR}/fold{fold}_best.pth', weights_only=False)['preds']


def main():
    random.seed(CFG.seed)
    torch.manual_seed(CFG.seed)
    images, scores = make_competition_data(CFG.n_train, CFG.seed)
    test_images, solution = make_competition_data(CFG.n_test, CFG.seed + 1)
    bins = np.digitize(scores, np.arange(10, 100, 10))
    oof, used = np.zeros(len(scores)), []
    skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    for fold, (trn_idx, val_idx) in enumerate(skf.split(images, bins)):
        if fold in CFG.trn_fold:
            print(f'========== fold: {fold} training ==========')
            oof[val_idx] = train_loop(images, scores, trn_idx, val_idx, fold)
            used.append(val_idx)
    used = np.concatenate(used)
    print(f'========== CV: {get_score(scores[used], oof[used]):.3f} ==========')

    test_loader = DataLoader(PlateDataset(test_images, transform=get_transforms('test')), batch_size=100)
    predictions = []
    for fold in CFG.trn_fold:
        model = PlateModel()
        model.load_state_dict(torch.load(f'{OUTPUT_DIR}/fold{fold}_best.pth', weights_only=False)['model'])
        predictions.append(inference(test_loader, model))
    submission = np.mean(predictions, axis=0)
    print(f'submission: {submission[:5].round(1)}  private LB: {get_score(solution, submission):.3f}')


if __name__ == '__main__':
    main()
