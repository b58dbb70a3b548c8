"""Text to spec: what is read, what comes back as text, and where errors point."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.errors import LayerStringError
from striate.models.layer_strings.layer_string import parse_layers
from striate.models.layer_strings.spec import Layer, Network, Repeat, Residual
from striate.models.layer_strings.words import WORDS

GOLDEN = {
    "conv(16,5) relu pool(2) fc(10)": "conv(16,5) relu pool(2) fc(10)",
    "  conv( 16 , kernel = 5 )\n\trelu ": "conv(16,5) relu",
    "conv(kernel=3x5, filters=8, pad='same')": "conv(8,3x5,pad=same)",
    'conv(8,3,2,"same",1,1,reflect,False)': "conv(8,3,stride=2,pad=same,padding_mode=reflect,bias=false)",
    "conv(8,3,stride=1,bias=true)": "conv(8,3)",
    "conv(8,3x5x7,padding_mode='circular')": "conv(8,3x5x7,padding_mode=circular)",
    "leaky leaky(0.1) leaky(0.2) elu elu(alpha=.5)": "leaky leaky leaky(0.2) elu elu(0.5)",
    "lrn lrn(5) lrn(7,k=2) dropout dropout(p=0)": "lrn lrn lrn(7,k=2) dropout dropout(0)",
    "pool(3,stride=2,pad=1) pool(3,2,1)": "pool(3,stride=2,pad=1) pool(3,stride=2,pad=1)",
    "2*[ 3 * [relu] res[conv(4,3,pad=1) bn] ]": "2*[3*[relu] res[conv(4,3,pad=1) bn]]",
    "relu() up up(2) up(2x1) dropout(1e-2)": "relu up up up(2x1) dropout(0.01)",
}


@pytest.mark.parametrize("text", GOLDEN)
def test_canonical_form(text):
    network = parse_layers(text)
    assert str(network) == GOLDEN[text]
    assert parse_layers(str(network)) == network


def test_records_are_plain():
    expected = Network(
        (
            Layer("conv", (("filters", 16), ("kernel", (3, 5)))),
            Repeat(2, (Residual((Layer("relu"),)),)),
        )
    )
    network = parse_layers("conv(16,3x5) 2*[res[relu]]")
    assert network == expected
    assert hash(network) == hash(expected)
    assert [item.position for item in network.items] == [0, 13]
    conv = network.items[0]
    assert (conv["kernel"], conv["stride"], conv["pad"], conv["bias"]) == ((3, 5), 1, 0, True)


def test_defaults_of_the_contract():
    words = {word: parse_layers(word).items[0] for word in ("leaky", "lrn", "dropout", "elu", "up")}
    assert words["leaky"]["slope"] == 0.1
    assert words["lrn"]["size"] == 5
    assert words["dropout"]["p"] == 0.5
    assert words["elu"]["alpha"] == 1.0
    assert words["up"]["factor"] == 2


# text, character pointed at, part of what came or was expected, remedy
ERRORS = [
    ("relu cnv(16,5)", 5, "did you mean `conv`", "relu conv(16,5)"),
    ("maxpool(2)", 0, "did you mean `pool`", "pool(2)"),
    ("linear(10)", 0, "did you mean `fc`", "fc(10)"),
    ("relu zzzzzz(3) bn", 5, "unknown layer", "relu bn"),
    ("relu conv(16)", 5, "without `kernel`", "relu conv(16,3)"),
    ("conv", 0, "without `filters` and `kernel`", "conv(16,3)"),
    ("conv(16,5,strid=2)", 10, "did you mean `stride`", "conv(16,5,stride=2)"),
    ("conv(16,3,padding=1)", 10, "did you mean `pad`", "conv(16,3,pad=1)"),
    ("conv(16,5,kernel=3)", 10, "`kernel` of `conv` twice", "conv(16,5)"),
    ("relu(3)", 5, "takes no argument", "relu()"),
    ("pool(2,2,0,1)", 11, "takes 3 arguments", "pool(2,2,0)"),
    ("conv(filters=3,4)", 15, "without its name", "conv(filters=3,kernel=4)"),
    ("conv(16,0)", 8, "`kernel` of `conv` is 0", "conv(16,1)"),
    ("conv(16,3x0)", 8, "3x0", "conv(16,3x1)"),
    ("conv(0,3)", 5, "`filters` of `conv` is 0", "conv(1,3)"),
    ("conv(16,3,stride=0)", 17, "is 0", "conv(16,3,stride=1)"),
    ("conv(16,3,pad=-1)", 14, "is -1", "conv(16,3,pad=0)"),
    ("conv(16.5,3)", 5, "16.5", "conv(16,3)"),
    ("conv(16,2.5)", 8, "2.5", "conv(16,3)"),
    ("conv(16,3,bias=maybe)", 15, "true or false", "conv(16,3,bias=true)"),
    ("conv(16,3,padding_mode=reflekt)", 23, "reflect", "conv(16,3,padding_mode=reflect)"),
    ("conv(16,3x3x3x3)", 8, "three axes", "conv(16,3x3x3)"),
    ("pool(2,pad=same)", 11, "same", "pool(2,pad=0)"),
    ("lcn(4)", 4, "odd", "lcn(3)"),
    ("dropout(1.5)", 8, "1.5", "dropout(0.999)"),
    ("conv(16,5),relu", 10, "separated by spaces", "conv(16,5) relu"),
    ("conv(16,5", 4, "not closed", "conv(16,5)"),
    ("conv(16,5px)", 8, "`5px`", "conv(16,5)"),
    ("conv(16 5)", 8, "without a comma", "conv(16,5)"),
    ("conv(16,5,)", 10, "where an argument is expected", "conv(16,5)"),
    ("pool(,2)", 5, "`,` where an argument is expected", "pool(2)"),
    ("conv(16,(3,5),stride=(2,1))", 8, "where an argument is expected", "conv(16,3x5,stride=2x1)"),
    ("conv(16,3) pool((2,1))", 16, "where an argument is expected", "conv(16,3) pool(2x1)"),
    ("relu res[bn", 8, "not closed", "relu res[bn ]"),
    ("relu ] bn", 5, "without an opening", "relu   bn"),
    ("[relu]", 0, "res[ … ]", "relu"),
    ("bn res[]", 3, "nothing inside", "bn res[relu]"),
    ("res[ ]", 0, "nothing inside", "res[ relu]"),
    ("3*[]", 0, "nothing inside", "3*[relu]"),
    ("res", 0, "in brackets", "res[relu]"),
    ("3x[relu]", 0, "where a layer is expected", "3*[relu]"),
    ("3*conv(16,3) relu", 0, "brackets", "3*[conv(16,3)] relu"),
    ("0*[relu]", 0, "0 repetitions", "1*[relu]"),
    ("relu @ bn", 5, "'@'", "relu   bn"),
    ("conv(4,3×5) pool(2×2)", 8, "'×'", "conv(4,3x5) pool(2x2)"),
    ("2×[relu]", 1, "'×'", "2*[relu]"),
    ("relu 'abc", 5, "quotation mark", None),
    ("", 0, "no layer", "fc(10)"),
    ("fc(1000001)", 3, "1000001", "fc(64)"),
    ("leaky(1e7)", 6, "1e7", "leaky(0.1)"),
    ("elu(-1.5e+300)", 4, "-1.5e+300", "elu(1)"),
    ("relu dropout(1e999)", 13, "1e999", "relu dropout(0.5)"),
    ("fc(1E7)", 3, "1E7", "fc(64)"),
    ("conv(8,0000003x20000000)", 7, "0000003x20000000", "conv(8,0000003x3)"),
    ("2000*[relu]", 0, "2,000 layers", "1000*[relu]"),
    ("600*[relu] 600*[bn]", 11, "1,200 layers", "600*[relu] 400*[bn]"),
    ("1000000*[1000000*[relu]]", 9, "layers", "1*[1000*[relu]]"),
    ("1000000000*[relu]", 0, "1000000000", "1000*[relu]"),
    ("res[" * 33 + "relu" + "]" * 33, 131, "33 deep", None),
]


@pytest.mark.parametrize(("text", "position", "words", "remedy"), ERRORS, ids=[e[0][:30] for e in ERRORS])
def test_errors_point_at_the_character_and_their_remedy_parses(text, position, words, remedy):
    with pytest.raises(LayerStringError) as caught:
        parse_layers(text)
    error = caught.value
    assert error.position == position, error
    assert words in error.got + error.expected, error
    mended = pasted(error)
    parse_layers(mended)
    if remedy is not None:
        assert " ".join(mended.split()) == " ".join(remedy.split())
    shown, pointer = str(error).split("\n")[1:3]
    assert (shown + " ")[pointer.index("^") :][:1] == (text + " ")[position] or position >= 40 or not text


def test_too_many_layers_without_a_repetition_have_a_remedy_in_words():
    with pytest.raises(LayerStringError) as caught:
        parse_layers("relu " * 1000 + "fc(3)")
    assert caught.value.position == 5000
    assert caught.value.remedy == "write at most 1000 layers, or the network as a function: path/to/file.py:function"


def pasted(error):
    """What stands between the quotation marks of the remedy."""
    return re.search(r'"(.*)"', error.remedy).group(1)


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "text",
    [
        "relu " * 4001,
        "9" * 20_000,
        "[" * 20_000,
        "res[" * 5_000,
        "(" * 19_000,
        "'\"" * 9_000,
        "1x" * 9_999,
        "a-" * 9_000,
    ],
    ids=lambda text: text[:6],
)
def test_long_nonsense_is_refused_at_once(text):
    with pytest.raises(LayerStringError):
        parse_layers(text)


sizes = st.integers(1, 10**6) | st.lists(st.integers(1, 99), min_size=1, max_size=3).map(tuple)
numbers = {"number": st.floats(0.001, 0.9), "flag": st.booleans()}


@st.composite
def layers(draw):
    word = draw(st.sampled_from(sorted(WORDS)))
    chosen = {}
    for parameter in WORDS[word]:
        if parameter.required or draw(st.booleans()):
            high = int(min(parameter.high, 10**6))
            count = st.integers(max(1, int(parameter.low)), high)
            odd = st.integers(1, 49).map(lambda n: 2 * n + 1)
            pad = st.just("same") | sizes | st.just(0)
            choice = st.sampled_from(parameter.choices or ("none",))
            by_kind = {"count": count, "odd": odd, "size": sizes, "pad": pad, "choice": choice} | numbers
            value = draw(by_kind[parameter.kind])
            # A one-element tuple is written like the plain number.
            chosen[parameter.name] = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    return Layer(word).changed(**chosen)


items = st.recursive(
    layers(),
    lambda inner: (
        st.builds(Residual, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(Repeat, st.integers(1, 3), st.lists(inner, min_size=1, max_size=2).map(tuple))
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.builds(Network, st.lists(items, min_size=1, max_size=4).map(tuple)))
def test_str_parses_back_to_an_equal_spec(network):
    assert parse_layers(str(network)) == network


pieces = st.sampled_from(
    ["conv", "(", ")", "[", "]", "3", "x", "*", ",", "=", "res", "pool", " ", "0.5", "same", "-1", "é"]
)


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60) | st.lists(pieces, max_size=30).map("".join))
def test_random_text_is_read_or_refused_with_an_error_that_shows(text):
    network, error = read_or_refused(text)
    if error is not None:
        assert 0 <= error.position <= len(text)
        assert f"remedy:   {error.remedy}" in str(error)
        assert error.remedy
    else:
        assert parse_layers(str(network)) == network


def read_or_refused(text):
    try:
        return parse_layers(text), None
    except LayerStringError as error:
        return None, error
