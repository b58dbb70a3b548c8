"""`data.leak` by code: are variants of samples, or columns that depend on the targets of all samples, made before the
split? A comparison of samples does not find these."""

from __future__ import annotations

import ast
import textwrap

import pytest

from for_checks.asked import asked, digits, perceptron
from striate.doctor.checks.data.splits.copied_before_split import COPIED_BEFORE_SPLIT
from striate.doctor.setup.script_source import ScriptSource

EXPAND = """
def expand(images, copies):
    shifted = []
    for _ in range(copies):
        moved = torch.roll(images, 1, dims=3)
        shifted.append(moved + 0.1 * torch.randn_like(moved))
    return torch.cat(shifted)
def shifted(images, labels):
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1)))
    images = np.concatenate([images, padded[:, :, 2:], padded[:, :, :-2]])
    return images, np.concatenate([labels] * 3)
def in_windows(images, labels):
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    corners = [(1, 1), (0, 1), (2, 1), (1, 0)]
    images = np.concatenate([padded[:, i:i + 8, j:j + 8] for i, j in corners])
    return images, np.tile(labels, len(corners))
def rolled(images, shifts):
    return torch.cat([torch.roll(images, s, dims=3) for s in shifts])
def in_patches(images, labels):
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    return np.concatenate([padded[:, i:i + 8] for i in range(0, 24, 8)]), np.tile(labels, 3)
def by_width(images, widths):
    return np.concatenate([images[:, :w] for w in widths])
def smote(a, count):
    return a[near(a)] + (a - a[near(a)]) * np.random.rand(count, 1)
def balance(x, y):
    return np.concatenate([x[y == 0][:100], x[y == 1]])
def parted(x, y):
    order = np.random.permutation(len(x))
    return x[order[:80]], x[order[80:]]
"""


HALVES = "order = torch.randperm(len(x))\ntrain_x, val_x = x[order[:80]], x[order[80:]]"


SKLEARN = "train_x, val_x, train_y, val_y = train_test_split(x, y, test_size=0.2)"


WRONG = {
    "noise": f"x, y = np.concatenate([x, x + 0.1 * noise]), np.concatenate([y, y])\n{SKLEARN}",
    "function": f"x, y = expand(x, 4), y.repeat(4)\n{HALVES}",
    "function of a part": f"x, y = shifted(d.images.astype('float32') / 16, d.target)\n{SKLEARN}",
    "windows": f"x, y = in_windows(d.images / 16, d.target)\n{SKLEARN}",
    "rolled": f"x, y = rolled(x, [0, 1, 2]), y.repeat(3)\n{HALVES}",
    "rolled here": f"x = np.concatenate([np.roll(x, s, axis=2) for s in (-1, 0, 1)])\n{SKLEARN}",
    "repeated": f"x = x.repeat(3, 1, 1, 1)\nx = x + 0.1 * torch.randn_like(x)\n{HALVES}",
    "smote": f"more = smote(x[y == 1], 50)\nx = np.vstack([x, more])\n{SKLEARN}",
    "library": f"x, y = SMOTE(random_state=0).fit_resample(x, y)\n{SKLEARN}",
    "rare ones again": "more = resample(rare, n_samples=900)\ndf = pd.concat([rest, more]).sample(frac=1)\n"
    "train, val = train_test_split(df.drop(columns='y').values, df.y.values)",
    "rare ones drawn": "more = rare.sample(9, replace=True)\ndf = pd.concat([rest, more])\nx = df[['a', 'b']].values\n"
    "y = df.y.values\na, b, c, d = train_test_split(x, y)",
    "mirrored": "x = torch.cat([x, x.flip(-1)])\na, b = random_split(TensorDataset(x, y), [80, 20])",
    "folds": "folds = StratifiedKFold(5)\ndf = pd.concat([df, jitter(df)])\nfor i, j in folds.split(df, y):\n    pass",
    "own split": "x = np.concatenate([x, x[:, :, ::-1]])\na, b = parted(x, y)",
    "chosen": f"chosen = SelectKBest(f_classif, k=20)\nx = chosen.fit_transform(x, y)\n{SKLEARN}",
    "means by group": "df['city'] = df.groupby('city')['price'].transform('mean')\ny = df['price'].to_numpy()\n"
    "train, val = train_test_split(df, test_size=0.2)",
    "means by group, targets at the end": "df['city'] = df.groupby('city')['price'].transform('mean')\n"
    "a, b = train_test_split(df)\ntrain = TensorDataset(torch.tensor(a[cols].values), torch.tensor(a.price.values))",
    "several of each": "x = np.stack([turn(one) for one in d.images for _ in range(2)]).astype('float32')\n"
    f"y = np.repeat(d.target, 2)\n{SKLEARN}",
    "several with labels": "x = [(turn(a), b) for a, b in zip(images, labels) for _ in range(3)]\n"
    "train, val = random_split(x, [80, 20])",
    "lists": "a, b = load()\nx = [turn(one) for one in a for _ in range(2)]\ny = [one for one in b for _ in range(2)]\n"
    f"{SKLEARN}",
    "appended": "xs = []\nfor path in files:\n    one = read(path)\n    xs.append(one)\n    for _ in range(5):\n"
    f"        xs.append(turn(one))\nx = np.stack(xs) / 255\nx = x - x.mean()\n{SKLEARN}",
    "positions": "x = torch.cat([x, 0.9 * x])\nids = np.random.permutation(len(x))\n"
    "train, val = ids[:80], ids[80:]\na = x[train]\nb = x[val]",
}


RIGHT = {
    "after": f"{HALVES}\ntrain_x = expand(train_x, 4)",
    "function after": f"{SKLEARN}\ntrain_x, train_y = shifted(train_x[:80] / 16, train_y[:80])",
    "windows after": f"{SKLEARN}\ntrain_x, train_y = in_windows(train_x, train_y)",
    "patches": f"x, y = in_patches(d.images, d.target)\n{SKLEARN}",
    "of several widths": f"x = by_width(x, widths)\n{SKLEARN}",
    "rolled columns": f"x = np.concatenate([np.roll(x, s, axis=2) for s in (-1, 0, 1)], axis=1)\n{SKLEARN}",
    "each": f"x = np.concatenate([np.roll(one, 1, axis=2) for one in x])\n{SKLEARN}",
    "columns": f"x = np.concatenate([x, x ** 2], axis=1)\n{SKLEARN}",
    "channels": f"x = x.repeat(1, 3, 1, 1)\n{HALVES}",
    "balanced": f"x = balance(x, y)\n{SKLEARN}",
    "by class": f"x = np.concatenate([x[y == 0], x[y == 1]])\n{SKLEARN}",
    "others": f"x = np.concatenate([x, read('more.npy')])\n{SKLEARN}",
    "fewer": f"x, y = RandomUnderSampler().fit_resample(x, y)\n{SKLEARN}",
    "means": f"x = np.concatenate([x, np.zeros_like(x)])\n{SKLEARN}",
    "groups": "x = torch.cat([x, x + noise])\nfor i, j in GroupKFold(5).split(x, y, groups):\n    pass",
    "scaled": f"x = StandardScaler().fit_transform(x)\n{SKLEARN}",
    "counts by group": "df['city'] = df.groupby('city')['id'].transform('count')\ny = df['price'].to_numpy()\n"
    "train, val = train_test_split(df, test_size=0.2)",
    "chosen after": f"{SKLEARN}\ntrain_x = SelectKBest(f_classif, k=20).fit_transform(train_x, train_y)",
    "views": "z = torch.cat([x + noise, x + noise])\na, b = z[:80], z[80:]",
    "drawn of each class": "x = np.stack([draw(kind) for kind in kinds for _ in range(9)])\n"
    f"y = np.repeat(np.arange(10), 9)\n{SKLEARN}",
    "many of a prototype": "x = np.stack([noisy(one) for one in d.images for _ in range(100)])\n"
    f"y = np.repeat(d.target, 100)\n{SKLEARN}",
    "drawn in a loop": "xs = []\nfor kind in kinds:\n    for _ in range(50):\n        xs.append(draw(kind))\n"
    f"x = np.stack(xs)\n{SKLEARN}",
    "parts of each": "x = np.stack([cut(one, i) for one in d.images for i in range(4)])\n"
    f"y = np.repeat(d.target, 4)\n{SKLEARN}",
    "several after": "train_x, val_x, train_y, val_y = train_test_split(d.images, d.target)\n"
    "x = np.stack([turn(one) for one in train_x for _ in range(2)])\ny = np.repeat(train_y, 2)",
    "fewer of the rest": "fewer = resample(rest, replace=False, n_samples=90)\ndf = pd.concat([fewer, rare])\n"
    "train, val = train_test_split(df.drop(columns='label').values, df.label.values)",
    "anew": f"x = torch.cat([x, x + noise])\nx = load()\n{HALVES}",
}


@pytest.mark.parametrize(("text", "wrong"), [(t, True) for t in WRONG.values()] + [(t, False) for t in RIGHT.values()])
@pytest.mark.parametrize("inside", [False, True])
def test_variants_are_made_before_the_split(text: str, wrong: bool, inside: bool) -> None:
    text = "def main():\n" + textwrap.indent(text, "    ") + "\n" if inside else text + "\n"
    tree = ast.parse(EXPAND + text)
    source = ScriptSource({"train.py": tree}, {}, ("train.py", 1, 1), None)
    found = asked(COPIED_BEFORE_SPLIT, perceptron(), digits(), source=source)
    assert [one.code for one in found] == ["data.leak"] * wrong
