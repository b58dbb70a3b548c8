"""Points over images can be seen, whatever the size and the brightness of the image."""

from __future__ import annotations

import numpy as np
import pytest

from striate.visualize.point_figures import drawn_points


def in_color(picture, color):
    return int((picture == np.array(color)).all(-1).sum())


@pytest.mark.parametrize("brightness", [0, 128, 255])
@pytest.mark.parametrize("side", [64, 600])
def test_the_ring_of_a_true_point_is_around_the_dot_of_a_right_prediction(side, brightness):
    image = np.full((3, side, side), brightness, np.uint8)
    one = side * np.array([[0.5, 0.5, 1.0]])
    one[:, 2] = 1
    picture = drawn_points(image, one, [], one)
    share = np.array([in_color(picture, color) for color in ((255, 210, 0), (255, 255, 255), (0, 0, 0))])
    own = {255: 1, 0: 2}.get(brightness)  # the color of the image itself is no mark
    seen = [k for k in range(3) if k != own]
    assert (share[seen] > picture.shape[0] ** 2 / 5000).all()


def test_a_point_with_less_confidence_is_a_cross_in_another_color():
    picture = drawn_points(np.zeros((1, 64, 64), np.uint8), np.array([[32, 32, 0.2]]), [])
    assert in_color(picture, (255, 90, 60)) > 20
    assert in_color(picture, (255, 210, 0)) == 0
