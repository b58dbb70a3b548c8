# # Digit Recognizer: simple CNN, 5 folds, BN + dropout
# ## Libraries
import os
import random
import tempfile
import time

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, Dataset

import toydata


# ## CFG
class CFG:
    seed = 2021
    n_fold = 5
    trn_fold = [0, 1]
    epochs = 9
    batch_size = 40
    valid_batch_size = 150
    lr = 2e-3
    weight_decay = 1e-4
    target_size = 10
    target_col = 'label'


OUTPUT_DIR = tempfile.mkdtemp()


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# ## Data
images_all, labels_all = toydata.draw_digits(1500, seed=20)
images_all = images_all[:, 0].numpy()
train = pd.DataFrame({'image_id': np.arange(len(images_all)), 'label': labels_all.numpy()})

test_images, test_labels = toydata.draw_digits(300, seed=21)
test_images = test_images[:, 0].numpy()
test = pd.DataFrame({'image_id': np.arange(len(test_images)), 'label': test_labels.numpy()})

folds = train.copy()
kfold = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
for n, (_, val_index) in enumerate(kfold.split(folds, folds[CFG.target_col])):
    folds.loc[val_index, 'fold'] = n
folds['fold'] = folds['fold'].astype(int)
print(folds.groupby(['fold', CFG.target_col]).size().unstack())


class TrainDataset(Dataset):
    def __init__(self, df, images, mean, std, augment=False):
        self.ids = df['image_id'].values
        self.labels = df[CFG.target_col].values
        self.images, self.mean, self.std, self.augment = images, mean, std, augment

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, idx):
        image = (self.images[self.ids[idx]].astype(np.float32) / 255. - self.mean) / self.std
        if self.augment:
            image = image * np.float32(random.uniform(0.9, 1.1)) + np.float32(random.uniform(-0.1, 0.1))
        return torch.from_numpy(image).unsqueeze(0), torch.tensor(self.labels[idx]).long()


# ## Model
class DigitModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, CFG.target_size))

    def forward(self, x):
        return self.classifier(self.features(x))


# ## Helper functions
def train_fn(train_loader, model, criterion, optimizer, scheduler):
    model.train()
    running, count = 0.0, 0
    for images, labels in train_loader:
        logits = model(images)
        loss = criterion(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.detach() * labels.size(0)
        count += labels.size(0)
    return float(running) / count


def inference(model, loader):
    model.eval()
    probs = []
    for images, _ in loader:
        with torch.no_grad():
            probs.append(model(images).softmax(1).numpy())
    return np.concatenate(probs)


# ## Train loop
def train_loop(folds, fold):
    print(f'========== fold: {fold} training ==========')
    train_folds = folds[folds['fold'] != fold].reset_index(drop=True)
    valid_folds = folds[folds['fold'] == fold].reset_index(drop=True)
    pixels = images_all[train_folds['image_id'].values] / 255.
    mean, std = np.float32(pixels.mean()), np.float32(pixels.std())
    train_loader = DataLoader(TrainDataset(train_folds, images_all, mean, std, augment=True),
                              batch_size=CFG.batch_size, shuffle=True)
    valid_loader = DataLoader(TrainDataset(valid_folds, images_all, mean, std), batch_size=CFG.valid_batch_size)
    test_loader = DataLoader(TrainDataset(test, test_images, mean, std), batch_size=CFG.valid_batch_size)

    model = DigitModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=CFG.lr,
                                                    total_steps=CFG.epochs * len(train_loader))
    criterion = nn.CrossEntropyLoss()
    best_score, path = -1., os.path.join(OUTPUT_DIR, f'cnn_fold{fold}_best.pth')
    for epoch in range(CFG.epochs):
        start = time.time()
        avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
        preds = inference(model, valid_loader)
        score = accuracy_score(valid_folds[CFG.target_col].values, preds.argmax(1))
        print(f'Epoch {epoch + 1} - avg_train_loss: {avg_loss:.4f}  score: {score:.4f}  {time.time() - start:.1f}s')
        if score > best_score:
            best_score = score
            torch.save({'model': model.state_dict(), 'preds': preds}, path)
    checkpoint = torch.load(path, weights_only=False)
    model.load_state_dict(checkpoint['model'])
    valid_folds['pred'] = checkpoint['preds'].argmax(1)
    return valid_folds, inference(model, test_loader)


if __name__ == '__main__':
    oof_df, test_preds = pd.DataFrame(), []
    for fold in CFG.trn_fold:
        _oof_df, _test_preds = train_loop(folds, fold)
        oof_df = pd.concat([oof_df, _oof_df])
        test_preds.append(_test_preds)
    print('CV:', accuracy_score(oof_df[CFG.target_col], oof_df['pred']))
    print(confusion_matrix(oof_df[CFG.target_col], oof_df['pred']))
    print('Test:', accuracy_score(test[CFG.target_col], np.mean(test_preds, axis=0).argmax(1)))
