"""Reference implementations of the operations in NumPy, forward and backward, directly from the definitions.

Everything is computed in float64; integers and smaller floats are promoted. Maps are (N, C, *spatial) with 1 to 3
spatial axes; a size is a whole number, or one for each axis. `…_backward(grad_out, …)` takes the gradient with respect
to the output, or one number for all of it, then the arguments of the forward function; it returns the gradient with
respect to x, or to x, w and b. Raises ShapeError for shapes that do not fit, UsageError for values out of range."""

from striate.reference.activations import (
    elu,
    elu_backward,
    leaky_relu,
    leaky_relu_backward,
    maxout,
    maxout_backward,
    prelu,
    prelu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    swish,
    swish_backward,
    tanh,
    tanh_backward,
)
from striate.reference.boltzmann import (
    boltzmann_energy,
    free_energy,
    hidden_given_visible,
    log_partition,
    probabilistic_max_pool,
    visible_given_hidden,
)
from striate.reference.boxes import box_iou, generalized_iou, non_maximum_suppression
from striate.reference.captions import bleu, bleu_counts, cider, rouge_l
from striate.reference.check_gradient import GradientCheck, check_gradient
from striate.reference.convolve import (
    convolve,
    convolve_backward,
    locally_connected,
    locally_connected_backward,
    transposed_convolve,
    transposed_convolve_backward,
)
from striate.reference.dense import dense, dense_as_convolution, dense_backward
from striate.reference.dropout import dropout, dropout_backward, dropout_mask
from striate.reference.im2col import col2im, im2col
from striate.reference.losses import cross_entropy, cross_entropy_backward, hinge, hinge_backward
from striate.reference.normalization import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
    local_contrast_norm,
    local_contrast_norm_backward,
    local_response_norm,
    local_response_norm_backward,
)
from striate.reference.points import area_of_correct_points, correct_points, normalized_mean_error
from striate.reference.pooling import (
    average_pool,
    average_pool_backward,
    channel_l2_pool,
    channel_l2_pool_backward,
    l2_pool,
    l2_pool_backward,
    max_pool,
    max_pool_backward,
)
from striate.reference.retrieval import map_at_r, pair_auc, recall_at
from striate.reference.returns import lambda_return, n_step_return
from striate.reference.rotated_boxes import common_polygon, polygon_area, rotated_box_iou, rotated_corners
from striate.reference.sound import fit_waveform, log_mel

__all__ = [
    "GradientCheck",
    "area_of_correct_points",
    "average_pool",
    "average_pool_backward",
    "batch_norm",
    "batch_norm_backward",
    "bleu",
    "bleu_counts",
    "boltzmann_energy",
    "box_iou",
    "channel_l2_pool",
    "channel_l2_pool_backward",
    "check_gradient",
    "cider",
    "col2im",
    "common_polygon",
    "convolve",
    "convolve_backward",
    "correct_points",
    "cross_entropy",
    "cross_entropy_backward",
    "dense",
    "dense_as_convolution",
    "dense_backward",
    "dropout",
    "dropout_backward",
    "dropout_mask",
    "elu",
    "elu_backward",
    "fit_waveform",
    "free_energy",
    "generalized_iou",
    "group_norm",
    "group_norm_backward",
    "hidden_given_visible",
    "hinge",
    "hinge_backward",
    "im2col",
    "l2_pool",
    "l2_pool_backward",
    "lambda_return",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "local_contrast_norm",
    "local_contrast_norm_backward",
    "local_response_norm",
    "local_response_norm_backward",
    "locally_connected",
    "locally_connected_backward",
    "log_mel",
    "log_partition",
    "map_at_r",
    "max_pool",
    "max_pool_backward",
    "maxout",
    "maxout_backward",
    "n_step_return",
    "non_maximum_suppression",
    "normalized_mean_error",
    "pair_auc",
    "polygon_area",
    "prelu",
    "prelu_backward",
    "probabilistic_max_pool",
    "recall_at",
    "relu",
    "relu_backward",
    "rotated_box_iou",
    "rotated_corners",
    "rouge_l",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "swish",
    "swish_backward",
    "tanh",
    "tanh_backward",
    "transposed_convolve",
    "transposed_convolve_backward",
    "visible_given_hidden",
]
