"""What does not fit is refused with its place, the arithmetic and a remedy that works."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate import StriateError, reference
from striate.errors import ShapeError, UsageError

X = np.ones((1, 6, 5, 5))
W = np.ones((4, 6, 3, 3))
NAN, INF = float("nan"), float("inf")


def w(*shape):
    return np.ones(shape)


WRONG_SHAPES = {
    "picture without channels": lambda: reference.convolve(w(5, 5), w(3, 3)),
    "four spatial axes": lambda: reference.convolve(w(1, 1, 2, 2, 2, 2), w(1, 1, 1, 1, 1, 1)),
    "empty picture": lambda: reference.convolve(w(1, 1, 0, 5), w(1, 1, 1, 1)),
    "kernel of other axes": lambda: reference.convolve(X, w(4, 6, 3)),
    "kernel of other channels": lambda: reference.convolve(X, w(4, 5, 3, 3)),
    "empty kernel": lambda: reference.convolve(X, w(4, 6, 0, 3)),
    "kernel larger than the map": lambda: reference.convolve(X, w(4, 6, 7, 3)),
    "dilated kernel larger than the map": lambda: reference.convolve(X, W, dilation=3),
    "groups that do not divide": lambda: reference.convolve(X, W, groups=4),
    "bias of another size": lambda: reference.convolve(X, W, w(3)),
    "stride of another number of axes": lambda: reference.convolve(X, W, stride=(1, 1, 1)),
    "same with a stride": lambda: reference.convolve(X, W, stride=2, padding="same"),
    "reflection beyond the map": lambda: reference.convolve(X, W, padding=5, padding_mode="reflect"),
    "more than once around": lambda: reference.convolve(X, W, padding=6, padding_mode="circular"),
    "padding beyond all memory": lambda: reference.convolve(X, W, padding=10**6),
    "gradient of another shape": lambda: reference.convolve_backward(w(1, 4, 5, 5), X, W),
    "transposed kernel of other channels": lambda: reference.transposed_convolve(X, w(4, 6, 3, 3)),
    "all cut off": lambda: reference.transposed_convolve(X, w(6, 1, 3, 3), padding=4),
    "output padding of a whole stride": lambda: reference.transposed_convolve(X, w(6, 1, 3, 3), output_padding=1),
    "transposed groups": lambda: reference.transposed_convolve(X, w(6, 1, 3, 3), groups=4),
    "stride beyond all memory": lambda: reference.transposed_convolve(X, w(6, 1, 3, 3), stride=10**7),
    "kernels for other places": lambda: reference.locally_connected(X, w(2, 2, 1, 6, 3, 3)),
    "kernels without places": lambda: reference.locally_connected(X, W),
    "pool larger than the map": lambda: reference.max_pool(X, 6),
    "padding of more than half a pool": lambda: reference.max_pool(X, 2, padding=2),
    "pool of three sizes": lambda: reference.l2_pool(X, (1, 2, 3)),
    "matrix of other inputs": lambda: reference.dense(X, w(10, 149)),
    "columns of another size": lambda: reference.col2im(w(1, 9, 10), (5, 5), 3),
    "a size that is no tuple": lambda: reference.col2im(w(1, 9, 9), 5, 3),
    "slopes for other channels": lambda: reference.prelu(X, w(5)),
    "pieces that do not divide": lambda: reference.maxout(X, 4),
    "maxout of a number": lambda: reference.maxout(3.0, 1),
    "softmax of a number": lambda: reference.softmax(3.0),
    "softmax over a missing axis": lambda: reference.softmax(X, axis=4),
    "more labels than samples": lambda: reference.cross_entropy(w(2, 3), [0, 1, 2]),
    "no logits": lambda: reference.cross_entropy(w(0, 3), np.zeros(0, dtype=int)),
    "one value a channel": lambda: reference.batch_norm(w(1, 6)),
    "weights for other channels": lambda: reference.batch_norm(X, w(5)),
    "other last sizes": lambda: reference.layer_norm(X, normalized_shape=(6, 5)),
    "norm groups": lambda: reference.group_norm(X, 4),
    "fewer labels than vectors": lambda: reference.recall_at(np.eye(3), [0, 0], 1),
    "a lone vector": lambda: reference.map_at_r(w(3), [0]),
    "captions without references": lambda: reference.cider([["a"]], []),
    "counts of something else": lambda: reference.bleu(w(3)),
    "more scores than boxes": lambda: reference.non_maximum_suppression([[0, 0, 1, 1]], [0.5, 0.6], [0], 0.5),
    "more classes than boxes": lambda: reference.non_maximum_suppression([[0, 0, 1, 1]], [0.5], [0, 1], 0.5),
    "hidden units of other weights": lambda: reference.hidden_given_visible(w(3), w(4, 2), w(2)),
    "visible units of other weights": lambda: reference.visible_given_hidden(w(1, 2), w(4, 2), w(2)),
    "weights in a row": lambda: reference.log_partition(w(3), w(3), w(1)),
    "rewards without an end": lambda: reference.n_step_return([1, 2], [0], 1.0, 0.9),
    "values of fewer steps": lambda: reference.lambda_return([1, 2], [1], [0, 0], [0, 0], 0.9, 0.9),
    "one reward": lambda: reference.n_step_return(1.0, [0], 1.0, 0.9),
    "corners in a row": lambda: reference.polygon_area(w(6)),
    "a polygon of triples": lambda: reference.common_polygon(w(4, 2), w(4, 3)),
    "mask of another shape": lambda: reference.dropout(X, mask=np.ones(6, dtype=bool)),
}

WRONG_VALUES = {
    "stride 0": lambda: reference.convolve(X, W, stride=0),
    "stride of a half": lambda: reference.convolve(X, W, stride=1.5),
    "stride not a number": lambda: reference.convolve(X, W, stride=NAN),
    "infinite stride": lambda: reference.convolve(X, W, stride=(1, INF)),
    "stride as a truth value": lambda: reference.convolve(X, W, stride=True),
    "stride in words": lambda: reference.convolve(X, W, stride="2"),
    "negative padding": lambda: reference.convolve(X, W, padding=-1),
    "padding in words": lambda: reference.convolve(X, W, padding="full"),
    "a padding mode that is none": lambda: reference.convolve(X, W, padding_mode="mirror"),
    "dilation 0": lambda: reference.convolve(X, W, dilation=0),
    "no groups": lambda: reference.convolve(X, W, groups=0),
    "ragged lists": lambda: reference.convolve([[[1, 2], [3]]], W),
    "text": lambda: reference.relu(["a"]),
    "complex numbers": lambda: reference.convolve(X * 1j, W),
    "a tensor with a gradient": lambda: reference.relu(torch.ones(3, requires_grad=True)),
    "pool of size 0": lambda: reference.max_pool(X, 0),
    "infinite pool": lambda: reference.average_pool(X, INF),
    "a channel window of 0": lambda: reference.channel_l2_pool(X, 0),
    "a slope that is not a number": lambda: reference.leaky_relu(X, NAN),
    "infinite alpha": lambda: reference.elu(X, INF),
    "no pieces": lambda: reference.maxout(X, 0),
    "labels out of range": lambda: reference.cross_entropy(w(2, 3), [0, 3]),
    "negative labels": lambda: reference.hinge(w(2, 3), [0, -1]),
    "one-hot labels": lambda: reference.cross_entropy(w(2, 3), np.eye(3)[:2]),
    "labels that are no array": lambda: reference.hinge(w(2, 3), [[0], [1, 2]]),
    "negative margin": lambda: reference.hinge(w(2, 3), [0, 1], margin=-1),
    "eps 0": lambda: reference.batch_norm(X, eps=0),
    "mean without variance": lambda: reference.batch_norm(X, mean=w(6)),
    "negative variance": lambda: reference.batch_norm(X, mean=w(6), variance=-w(6)),
    "k 0": lambda: reference.local_response_norm(X, 5, 1e-4, 0.75, 0),
    "negative alpha": lambda: reference.local_response_norm(X, 5, -1, 0.75, 1),
    "even contrast window": lambda: reference.local_contrast_norm(X, 4),
    "p above 1": lambda: reference.dropout(X, 1.5, generator=np.random.default_rng(0)),
    "p not a number": lambda: reference.dropout(X, NAN, mask=X > 0),
    "mask of other values": lambda: reference.dropout(X, mask=X * 2),
    "no neighbor": lambda: reference.recall_at(np.eye(4), [0, 0, 1, 1], 0),
    "a vector without a direction": lambda: reference.recall_at(w(4, 2) * 0, [0, 0, 1, 1], 1),
    "no two of one class, MAP@R": lambda: reference.map_at_r(np.eye(4), np.arange(4)),
    "no two of one class, AUC": lambda: reference.pair_auc(np.eye(4), np.arange(4)),
    "no two classes": lambda: reference.pair_auc(np.eye(4), [1, 1, 1, 1]),
    "boxes in words": lambda: reference.box_iou([["a"] * 4], w(1, 4)),
    "blocks of no size": lambda: reference.probabilistic_max_pool(w(1, 1, 4, 4), 0),
    "a caption that is no list": lambda: reference.rouge_l(5, [["a"]]),
    "references that are no list": lambda: reference.rouge_l(["a"], 3),
    "references of numbers": lambda: reference.cider([["a"]], [[1]]),
    "a discount in words": lambda: reference.n_step_return([1.0], [0], 1.0, "a"),
    "a trace above 1": lambda: reference.lambda_return([1.0], [0.0], [0], [0], 0.9, 2),
    "corners in words": lambda: reference.polygon_area("abc"),
    "fewer samples than none": lambda: reference.fit_waveform(w(4), -1),
    "a window that is none": lambda: reference.log_mel(w(8), 8, 0, 2),
    "a hop of 0": lambda: reference.log_mel(w(8), 8, 4, 0),
    "visibility in ragged lists": lambda: reference.correct_points(w(1, 2, 2), w(1, 2, 2), [[1], [0, 1]], [1], 0.1),
    "a distance in words": lambda: reference.correct_points(w(1, 2, 2), w(1, 2, 2), [[1, 1]], [1], "a"),
    "a curve of no steps": lambda: reference.area_of_correct_points(w(1, 2, 2), w(1, 2, 2), [[1, 1]], [1], 0.1, 0),
    "a mask in ragged lists": lambda: reference.dropout_backward(1, [[1], [0, 1]]),
    "boxes in ragged lists": lambda: reference.non_maximum_suppression([[1], [2, 3]], [1], [0], 0.5),
    "a seed as a generator": lambda: reference.dropout(X, generator=0),
}


@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_shapes_that_do_not_fit(name):
    with pytest.raises(ShapeError) as caught:
        WRONG_SHAPES[name]()
    check_told(caught.value)


@pytest.mark.parametrize("name", WRONG_VALUES)
def test_values_out_of_range(name):
    with pytest.raises(UsageError) as caught:
        WRONG_VALUES[name]()
    check_told(caught.value)


def check_told(error):
    assert all(str(part).strip() for part in (error.where, error.got, error.expected, error.remedy))
    assert len(str(error).splitlines()) == 4


@pytest.mark.parametrize(
    ("function", "arguments", "options"),
    [
        (reference.convolve, (X, w(4, 6, 7, 3)), {}),
        (reference.convolve, (X, w(4, 6, 8, 9)), {"padding": 1}),
        (reference.convolve, (X, w(4, 6, 2, 3)), {"dilation": (1, 4)}),
        (reference.convolve, (X, w(4, 6, 7, 7)), {"padding": 5, "padding_mode": "reflect"}),
        (reference.convolve, (X, w(4, 3, 3, 3)), {"groups": 3}),
        (reference.convolve, (X, w(6, 2, 3, 3)), {}),
        (reference.convolve, (X, W), {"stride": 2, "padding": "same"}),
        (reference.convolve, (X, W), {"padding": -1}),
        (reference.max_pool, (X, 2), {"padding": 2}),
        (reference.max_pool, (X, 3), {"stride": 0}),
        (reference.transposed_convolve, (X, w(6, 1, 3, 3)), {"padding": 4}),
        (reference.transposed_convolve, (X, w(6, 1, 3, 3)), {"output_padding": 1}),
        (reference.maxout, (X,), {"pieces": 4}),
        (reference.local_contrast_norm, (X,), {"size": 4}),
        (reference.dropout, (X,), {"p": 2.0, "mask": X > 0}),
        (reference.batch_norm, (X,), {"eps": 0}),
    ],
)
def test_remedies_work_when_pasted(function, arguments, options):
    with pytest.raises(StriateError) as caught:
        function(*arguments, **options)
    function(*arguments, **(options | eval(f"dict({caught.value.remedy})")))


@pytest.mark.parametrize(
    ("function", "given", "mended"),
    [
        (reference.rouge_l, {"caption": "a dog", "references": [["a", "dog"]]}, "caption"),
        (reference.bleu_counts, {"caption": ["a", "dog"], "references": "a dog"}, "references"),
        (reference.bleu_counts, {"caption": ["a", "dog"], "references": ["a dog", "a cat"]}, "references"),
        (reference.rouge_l, {"caption": ["a", "dog"], "references": ["a", "dog"]}, "references"),
        (reference.cider, {"captions": ["a dog", "a cat"], "references": [[["a", "dog"]], [["a"]]]}, "captions"),
        (reference.cross_entropy, {"logits": np.eye(3), "labels": np.arange(3.0)}, "labels"),
        (reference.cross_entropy, {"logits": np.eye(3), "labels": np.eye(3)}, "labels"),
        (reference.bleu, {"counts": np.ones((2, 10))}, "counts"),
        (reference.visible_given_hidden, {"h": w(1, 2), "w": w(4, 2), "a": w(4)}, "w"),
    ],
)
def test_an_argument_of_another_form_is_mended_by_what_is_written(function, given, mended):
    with pytest.raises(StriateError) as caught:
        function(**given)
    function(**(given | {mended: eval(caught.value.remedy.partition(" if ")[0], {"np": np}, given)}))


@pytest.mark.parametrize("shape", [(1, 0, 3), (2, 3, 0, 4)])
def test_an_array_with_an_empty_axis_gets_one_that_works(shape):
    with pytest.raises(ShapeError) as caught:
        reference.relu(reference.max_pool(w(*shape), 1))
    reference.max_pool(size=1, **eval(f"dict({caught.value.remedy})"))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), ()])
def test_empty_logits_get_some_that_work(shape):
    with pytest.raises(ShapeError) as caught:
        reference.cross_entropy(w(*shape), np.zeros(shape[:1], dtype=int))
    (logits,) = eval(f"dict({caught.value.remedy})").values()
    assert reference.cross_entropy(logits, np.zeros(len(logits), dtype=int)) == pytest.approx(np.log(logits.shape[1]))


@pytest.mark.parametrize(
    ("labels", "mended"),
    [([0, -1, 2], "logits[keep], labels[keep]"), ([1, 3, 2], "labels - 1"), ([0, 7, 2], "logits of shape (N, 8)")],
)
def test_labels_out_of_range_get_the_remedy_for_what_they_are(labels, mended):
    with pytest.raises(UsageError) as caught:
        reference.cross_entropy(w(3, 3), labels)
    assert mended in caught.value.remedy


def test_negative_labels_and_labels_from_one_are_mended_as_told():
    logits, labels = w(3, 3), np.array([0, -1, 2])
    keep = labels >= 0
    assert reference.cross_entropy(logits[keep], labels[keep]) == pytest.approx(np.log(3))
    assert reference.cross_entropy(logits, np.array([1, 3, 2]) - 1) == pytest.approx(np.log(3))


def test_one_of_a_kind_is_no_plural():
    with pytest.raises(ShapeError, match="1 kernel over 3 channels in 1 group, for 1 channel of x"):
        reference.convolve(w(1, 1, 4), w(1, 3, 2))


def test_the_arithmetic_is_shown():
    with pytest.raises(ShapeError) as caught:
        reference.convolve(X, w(4, 6, 7, 3), padding=(0, 1))
    assert "along spatial axis 0 a kernel over 7 positions" in str(caught.value)
    assert "5 + 0 + 0 = 5 positions" in str(caught.value)


@given(
    st.lists(st.integers(0, 4), max_size=6),
    st.lists(st.integers(0, 4), max_size=6),
    st.sampled_from([0, 1, 2, -1, NAN, "same", (1, 2), None, 10**9]),
    st.sampled_from([1, 2, 0, (2, 1), 1.0, None]),
    st.integers(-1, 3),
)
@settings(max_examples=150)
def test_whatever_is_given_there_is_a_result_or_an_explanation(x_shape, w_shape, padding, stride, groups):
    x, kernel = np.ones(x_shape), np.ones(w_shape)
    calls = [
        lambda: reference.convolve(x, kernel, stride=stride, padding=padding, groups=groups),
        lambda: reference.transposed_convolve(x, kernel, stride=stride, padding=padding, groups=groups),
        lambda: reference.locally_connected(x, kernel, stride=stride, padding=padding),
        lambda: reference.max_pool(x, 2, stride, padding),
        lambda: reference.im2col(x, 2, stride, padding),
        lambda: reference.dense(x, kernel),
        lambda: reference.group_norm(x, groups),
        lambda: reference.channel_l2_pool(x, groups),
    ]
    for call in calls:
        try:
            found = call()
        except StriateError:
            continue
        assert np.isfinite(found).all()


def test_the_room_needs_numpy_only():
    code = (
        "import sys, striate\n"
        "striate.reference.convolve([[[1, 2]]], [[[1]]])\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("pooling", [reference.max_pool, reference.average_pool, reference.l2_pool])
def test_the_remedy_for_a_window_larger_than_the_map_is_one_of_pooling(pooling):
    with pytest.raises(ShapeError) as caught:
        pooling(X, 6)
    assert caught.value.remedy == "padding=(1, 1)"
    assert pooling(X, 6, padding=(1, 1)).shape == (1, 6, 1, 1)


@pytest.mark.parametrize(
    ("x", "kernels"),
    [
        (w(3, 5, 5), w(2, 3, 3, 3)),
        (w(1, 1, 5, 5), w(3, 3)),
        (w(1, 1, 5, 5), w(2, 3, 3)),
        (w(1, 3, 5, 5), w(3, 3, 3)),
        (w(1, 3, 5, 5), w(2, 3, 3)),
    ],
)
def test_the_remedy_for_a_missing_axis_works(x, kernels):
    with pytest.raises(ShapeError) as caught:
        reference.convolve(x, kernels)
    remedy = caught.value.remedy.partition(" for ")[0]
    given = {"x": x, "w": kernels}
    if remedy.startswith("w=np.ones"):
        given["w"] = eval(remedy.removeprefix("w="))
    else:
        given[remedy[0]] = eval(remedy, dict(given))
    assert reference.convolve(**given).ndim == 4


@pytest.mark.parametrize(
    "x", [torch.ones(1, 1, 3).bfloat16(), torch.ones(1, 1, 3, requires_grad=True), np.ones((2, 1) * 3)]
)
def test_the_remedy_for_a_tensor_and_for_too_many_axes_works(x):
    with pytest.raises(StriateError) as caught:
        reference.relu(x) if x.ndim == 3 else reference.max_pool(x, 1)
    mended = eval(re.split(r" for |, with ", caught.value.remedy)[0], {"x": x})
    assert reference.max_pool(mended, 1).size == math.prod(x.shape)


def test_nothing_is_not_told_to_become_an_array():
    with pytest.raises(UsageError) as caught:
        reference.relu(None)
    assert caught.value.got == "nothing"
    assert "asarray" not in caught.value.remedy
