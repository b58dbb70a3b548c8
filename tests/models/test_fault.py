"""What a remedy promises: it is read, it builds, and it is still the network that was written."""

import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from striate.errors import LayerStringError
from striate.models.layer_strings.layer_string import parse_layers
from striate.models.layer_strings.outputs import plan_outputs
from striate.models.layer_strings.spec import Layer, Residual

MAP = (3, 28, 28)

# damaged text, remedy; for an input of 3×28×28 and 10 outputs
DAMAGED = [
    ("conv(8,3,fc(10)", "conv(8,3) fc(10)"),
    ("conv(8,3, relu fc(10)", "conv(8,3) relu fc(10)"),
    ("conv(8,3 2*[relu] fc(10)", "conv(8,3) 2*[relu] fc(10)"),
    ("relu(fc(10)", "relu fc(10)"),
    ("relu( 2*[relu] fc(10)", "relu 2*[relu] fc(10)"),
    ("2*[conv(8,3] fc(10)", "2*[conv(8,3)] fc(10)"),
    ("2*[relu(] fc(10)", "2*[relu ] fc(10)"),
    ("conv 8,3,pad=same) fc(10)", "conv(8,3,pad=same) fc(10)"),
    ("relu fc 10)", "relu fc(10)"),
    ("1000000*[relu] fc(10)", "999*[relu] fc(10)"),
    ("1000*[relu] fc(10)", "999*[relu] fc(10)"),
    ("9999999999999*[relu] fc(10)", "999*[relu] fc(10)"),
    ("2*[2000*[relu]] fc(10)", "2*[499*[relu]] fc(10)"),
    ("600*[relu] 3*[bn relu] 600*[bn] fc(10)", "600*[relu] 3*[bn relu] 393*[bn] fc(10)"),
    ("conv(8,3) res[conv(8,3,pad=1) relu fc(10)", "conv(8,3) res[conv(8,3,pad=1) relu ] fc(10)"),
    ("conv(8,3) res[conv(8,3,pad=1) relu pool(2) fc(10)", None),
    ("conv(8,3) res[relu conv(4,3) fc(10)", None),
    ("2*res[conv(8,3,pad=1)] fc(10)", "2*[res[conv(8,3,pad=1)]] fc(10)"),
    ("res 2*[conv(8,3,pad=1) relu] fc(10)", "res[2*[conv(8,3,pad=1) relu]] fc(10)"),
    ("res conv(8,3,pad=1) fc(10)", "res[conv(8,3,pad=1)] fc(10)"),
    ("2*3*[relu] fc(10)", "2*[3*[relu]] fc(10)"),
    ("2*conv(8,3) relu] fc(10)", "2*[conv(8,3) relu] fc(10)"),
    ("res conv(8,3,pad=1) relu] fc(10)", "res[conv(8,3,pad=1) relu] fc(10)"),
    ("rse[conv(8,3,pad=1) relu] fc(10)", "res[conv(8,3,pad=1) relu] fc(10)"),
    ("conv(99999999999999,3) fc(10)", "conv(64,3) fc(10)"),
    ("conv(8,99999999999999) fc(10)", "conv(8,3) fc(10)"),
    ("up(99999999999999) fc(10)", "up(2) fc(10)"),
    ("conv(1000000,3) fc(10)", "conv(16,3) fc(10)"),
    (
        "2*[2*[conv(8,3)] 2*[conv(1000000,3) local(4,3,pad=same,bias=false)]] fc(10)",
        "2*[2*[conv(8,3)] 2*[conv(16,3) local(4,3,pad=same,bias=false)]] fc(10)",
    ),
    ("conv8,3) fc(10)", "conv(8,3) fc(10)"),
    ("up2x1) fc(10)", "up(2x1) fc(10)"),
    ("dropout0.5) fc(10)", "dropout(0.5) fc(10)"),
    ("leakyslope=0.5) fc(10)", "leaky(slope=0.5) fc(10)"),
    ("resrelu bn] fc(10)", "res[relu bn] fc(10)"),
    ("conv(8,3,relu) fc(10)", "conv(8,3) relu fc(10)"),
    ("relu(bn) fc(10)", "relu bn fc(10)"),
    ("conv 8,3 2*[relu] fc(10)", "conv(8,3) 2*[relu] fc(10)"),
    ("conv 8 3 fc 10", "conv(8,3) fc(10)"),
    ("gn(0) fc(10)", "gn(1) fc(10)"),
]


@pytest.mark.parametrize(("text", "remedy"), DAMAGED)
def test_a_damaged_text_is_mended_to_what_was_meant(text, remedy):
    mended = mended_for_ten(text, MAP)
    plan_outputs(mended, MAP, 10, False, ())
    if remedy is not None:
        assert mended == remedy
    else:
        assert words(mended) == re.findall(r"\b[a-z]+\b(?!=)", text)


@pytest.mark.parametrize(
    ("text", "dense", "remedy"),
    [
        ("conv(8,3,pad=same) relu", True, "conv(8,3,pad=same) relu conv(10,1)"),
        ("conv(8,3,pad=same)", True, "conv(10,3,pad=same)"),
        ("conv(8,3) relu gap", False, "conv(8,3) relu gap fc(10)"),
        ("fc(8) relu", False, "fc(8) relu fc(10)"),
        ("fc(8) relu fc(5)", False, "fc(8) relu fc(10)"),
    ],
)
def test_a_layer_with_an_activation_is_a_hidden_one(text, dense, remedy):
    with pytest.raises(LayerStringError) as caught:
        plan_outputs(text, MAP, 10, dense, ())
    assert caught.value.remedy == f'write "{remedy}"'


def test_where_no_text_helps_words_do():
    # No repetition can be shortened here, and which of the layers is one too many nobody knows.
    text = "relu " * 1001
    with pytest.raises(LayerStringError) as caught:
        parse_layers(text)
    assert 'write "' not in caught.value.remedy
    assert "at most 1000" in caught.value.remedy


def test_a_text_too_long_to_show_is_mended_by_what_is_told():
    text = "relu " * 100 + "2*conv(8,3) fc(10)"
    with pytest.raises(LayerStringError) as caught:
        parse_layers(text)
    assert caught.value.remedy == "insert `[` at character 503 and insert `]` at character 512"


def mended_for_ten(text, shape):
    with pytest.raises(LayerStringError) as caught:
        plan_outputs(text, shape, 10, False, ())
    found = re.fullmatch(r'write "(.*)"', caught.value.remedy)
    assert found is not None, caught.value
    return found.group(1)


def words(text):
    """The words of a text in order; `*` stands for a repetition."""

    def listed(items):
        for item in items:
            if isinstance(item, Layer):
                yield item.word
            else:
                yield "res" if isinstance(item, Residual) else "*"
                yield from listed(item.items)

    return list(listed(parse_layers(text).items))


layers = st.sampled_from(
    ["conv(8,3)", "conv(8,3,pad=same)", "conv(6,kernel=3,pad=1)", "local(4,3,pad=same,bias=false)", "pool(2)", "up"]
) | st.sampled_from(["relu", "bn", "dropout(0.5)", "leaky(slope=0.2)", "lrn", "up(2x1)", "softmax", "lrn(5,k=2)"])
items = st.recursive(
    layers,
    lambda inner: st.builds(
        "{}[{}]".format, st.sampled_from(["res", "2*", "3 * "]), st.lists(inner, min_size=1, max_size=3).map(" ".join)
    ),
    max_leaves=4,
)
texts = st.lists(items, min_size=1, max_size=3).map(" ".join).map("{} fc(10)".format)


@st.composite
def damaged(draw):
    """A sound text, the same with one damage, and the place of the word that is damaged in `words`, if it is one."""
    text = draw(texts)
    kind = draw(st.sampled_from(["mark", "mark", "word", "number"]))
    if kind == "mark":
        at = draw(st.sampled_from([m.start() for m in re.finditer(r"[][()]", text)]))
        return text, text[:at] + draw(st.sampled_from(["", " "])) + text[at + 1 :], None
    if kind == "number":
        found = draw(st.sampled_from(list(re.finditer(r"(?<![\d.x])\d+(?![\d.x])", text))))
        large = draw(st.sampled_from(["999", "30000", "1000000", "99999999999"]))
        return text, text[: found.start()] + large + text[found.end() :], None
    # A word that an argument is named by or has for a value is none of the layers.
    found = list(re.finditer(r"(?<!=)\b[a-z]+[0-9]*\b(?!=)|\*", text))
    number = draw(st.sampled_from([i for i, m in enumerate(found) if m.group() != "*"]))
    word = found[number]
    spelled = draw(st.sampled_from([word.group() * 2, word.group()[::-1] + "q", word.group() + "x"]))
    return text, text[: word.start()] + spelled + text[word.end() :], number


def without(found, number):
    return found if number is None else found[:number] + found[number + 1 :]


@settings(deadline=None, max_examples=200)
@given(damaged())
def test_a_remedy_keeps_the_other_words(case):
    sound, text, number = case
    with pytest.raises(LayerStringError) as caught:
        assume(parse_layers(text) is None)
    found = re.fullmatch(r'write "(.*)"', caught.value.remedy)
    if found is None:
        assert 'write "' not in caught.value.remedy
        return
    kept, before = words(found.group(1)), words(sound)
    assert without(kept, number) == without(before, number) or kept == without(before, number)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(damaged())
@example(("res[conv(6,kernel=3,pad=1) pool(2)] fc(10)", "res[conv(6,kernel=3,pad=999) pool(2)] fc(10)", None))
def test_a_remedy_for_a_known_input_builds_and_keeps_the_other_words(case):
    sound, text, number = case
    try:
        plan_outputs(sound, MAP, 10, False, ())
    except LayerStringError:
        assume(False)
    with pytest.raises(LayerStringError) as caught:
        assume(plan_outputs(text, MAP, 10, False, ()) is None)
    found = re.fullmatch(r'write "(.*)"', caught.value.remedy)
    if found is None:
        assert 'write "' not in caught.value.remedy
        return
    plan_outputs(found.group(1), MAP, 10, False, ())
    kept, before = words(found.group(1)), words(sound)
    assert without(kept, number) == without(before, number) or kept == without(before, number)
