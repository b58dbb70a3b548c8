"""`data.shift` in the code: are scalers, encoders and vocabularies fitted again to validation?"""

from __future__ import annotations

import pytest
from torch import nn

from for_checks.asked import digits, perceptron, read
from for_checks.scripts import codes_of_script, values
from striate.doctor.checks.data.shift.fitted_again import FITTED_AGAIN


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("frame.assign(label=pd.factorize(frame.digit)[0])", "data.label-map"),
        ("frame.assign(label=pd.factorize(frame.digit, sort=True)[0])", None),
        ("frame.assign(label=pd.factorize(frame.digit)[0] if known is None else known)", None),
        ("frame.assign(patient=pd.factorize(frame.name)[0])", None),
    ],
)
def test_a_function_that_numbers_labels_of_each_part(line: str, code: str | None) -> None:
    text = f"def encode(frame):\n    return {line}\ntrain_df, val_df = encode(train_df), encode(val_df)\n"
    said = read(text + "for x, y in loader:\n    pass\n", FITTED_AGAIN, perceptron(), digits())
    assert [one.code for one in said] == ([] if code is None else [code])


LOOP = "for x, y in loader:\n    pass\n"


@pytest.mark.parametrize(
    ("first", "second", "wrong"),
    [
        ('pd.factorize(trn_df["grade"])', 'pd.factorize(val_df["grade"])', True),
        ("trn_df.grade.factorize()", "val_df.grade.factorize()", True),
        ('pd.factorize(trn_df["grade"], sort=True)', 'pd.factorize(val_df["grade"], sort=True)', False),
        ('pd.factorize(df["grade"])', 'pd.factorize(df["place"])', False),
    ],
)
def test_labels_are_numbered_as_they_appear_in_each_part(first: str, second: str, wrong: bool) -> None:
    text = f"a = {first}[0]\nb = {second}[0]\n{LOOP}"
    assert [one.code for one in read(text, FITTED_AGAIN, perceptron(), digits())] == ["data.label-map"] * wrong


NUMBERED = """
class Corpus:
    def __init__(self, train_words):
        self.vocab = self.build_vocab(train_words)

    @staticmethod
    def build_vocab(words):
        return {word: number for number, word in enumerate(dict.fromkeys(words))}

    def load(self, words, tags):
        vocab = self.build_vocab(words)
        return [vocab.get(word, 0) for word in words], tags

corpus = Corpus(train_raw[0])
train, val = (corpus.load(*raw) for raw in (train_raw, val_raw))
for x, y in loader:
    pass
"""


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("corpus", "corpus", True),
        ("*raw) for raw in (train_raw, val_raw)", "*raw) for raw in raws", False),
        ("self.build_vocab(words)", "self.vocab", False),
        ("vocab = self.build_vocab(words)", "vocab = self.vocab or self.build_vocab(words)", False),
        ("        vocab = ", "        if self.vocab:\n            return words\n        vocab = ", False),
        ("[vocab.get(word, 0) for word in words]", "len(vocab)", False),
        ("dict.fromkeys(words)", "sorted(set(words))", False),
        ("build_vocab", "make_scales", False),
    ],
)
def test_a_method_that_numbers_the_words_of_each_part_anew(old: str, new: str, wrong: bool) -> None:
    assert codes_of_script(NUMBERED.replace(old, new), values(), FITTED_AGAIN) == ["data.shift"] * wrong


NUMBERED_IN_ORDER = """
def {name}(corpus):
    return dict()

known, other = {name}(train_corpus), {name}({given})
for x, y in loader:
    pass
"""


@pytest.mark.parametrize(
    ("name", "given", "code"),
    [
        ("build_tag_vocab", "dev_corpus", "data.label-map"),
        ("build_vocab", "dev_labels", "data.label-map"),
        ("build_stage_vocab", "dev_corpus", "data.shift"),
        ("build_tag_vocab", "train_corpus", ""),
    ],
)
def test_a_vocabulary_of_tags_numbers_labels(name: str, given: str, code: str) -> None:
    text = NUMBERED_IN_ORDER.format(name=name, given=given)
    assert [one.code for one in read(text, FITTED_AGAIN, nn.Linear(8, 2), [])] == [code] * bool(code)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("valid_rows = self.binarizer.fit_transform(rows)", "data.label-map"),
        ("train_rows = self.binarizer.fit_transform(rows)", ""),
        ("y_val = encoder.fit_transform(names_of(val))", "data.shift"),
    ],
)
def test_labels_are_numbered_once(line: str, code: str) -> None:
    assert codes_of_script(f"{line}\nfor x, y in loader:\n    pass\n", values(), FITTED_AGAIN) == [code] * bool(code)


BUILDS = "def build_vocab(texts):\n    return {}\n"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("x_val = scaler.fit_transform(x_val)", True),
        ("x_train = scaler.fit_transform(x_train)\nx_val = scaler.transform(x_val)", False),
        ("for name in parts:\n    x = scaler.fit_transform(data[name])", True),
        ("for column in ['age', 'fare']:\n    x = scaler.fit_transform(data[column])", False),
        ("seen = TSNE().fit_transform(x_test)", False),
        ("plane = PCA(2)\nseen = plane.fit_transform(x_test)", False),
        ("plane = PCA(20)\nx_train = plane.fit_transform(x_train)\nx_test = plane.fit_transform(x_test)", True),
        (BUILDS + "known, other = build_vocab(train_texts), build_vocab(val_texts)", True),
        (BUILDS + "known = build_vocab(train_texts + val_texts)", False),
        (BUILDS + "known, other = build_vocab(train_words), build_vocab(train_labels)", False),
    ],
)
def test_validation_is_scaled_as_training_was(text: str, wrong: bool) -> None:
    names = values() | {"parts": {"train": (0, 5), "val": (5, 8)}}
    assert codes_of_script(f"{text}\nfor x, y in loader:\n    pass\n", names, FITTED_AGAIN) == ["data.shift"] * wrong
