"""Maps of the states of a network that plays, by their features (Mnih et al. 2015, figure 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.tasks.control.states import States
from striate.visualize.canvas import heading, main_title, name_axes, new_figure
from striate.visualize.inside.embedding import Embedding, draw_images
from striate.visualize.inside.mosaic import caption
from striate.wording import formatted, percent, several

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class StateMap:
    """A map of states by the features of the last hidden layer."""

    embedding: Embedding
    """Embedding of these features."""
    value: NDArray[np.float32]
    """(N,) value of the best action."""
    action: NDArray[np.int64]
    """(N,) number of the best action."""
    actions: tuple[str, ...]
    """Names of the actions."""
    meaning: str
    """What `value` is, in words."""

    @property
    def words(self) -> str:
        """What the map shows, in a line."""
        low, high = float(self.value.min()), float(self.value.max())
        of = f"{several(len(self.value), 'state')} of played games, by {self.embedding.source}"
        return f"{of}; {self.meaning} from {formatted(low, '.3g')} to {formatted(high, '.3g')}"

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        taken = [self.actions[number] for number in self.action.tolist()]
        return {"embedding": self.embedding.to_json(), "value": self.value.tolist(), "action": taken}


def map_states(embedding: Embedding, states: States, actions: tuple[str, ...], *, scores: bool) -> StateMap:
    """The map of states whose features were embedded. `scores`: whether outputs are scores of actions, as of a network
    that a planner taught, instead of values; the map then shows the probability of the action."""
    value = states.values.max(1)
    if scores:
        wide = np.exp(states.values - value[:, None])
        value = (1 / wide.sum(1)).astype(np.float32)
    meaning = "probability of the action taken" if scores else "value of the action taken"
    return StateMap(embedding, value, states.best, actions, meaning)


def states_figure(found: StateMap, pictures: NDArray[np.uint8], *, title: str) -> Figure:
    """Two panels of the same map: a point for each state, colored by its value; and frames (N, H, W, 3) at the
    points."""
    figure = new_figure(10.6, 5.9)
    left, right = figure.subplots(1, 2)
    points, facts = found.embedding.points, f"{percent(found.embedding.kept)} of neighbors kept"
    size = 26 if len(points) < 300 else 9
    drawn = left.scatter(points[:, 0], points[:, 1], s=size, c=found.value, cmap="viridis", linewidths=0)
    left.set_xticks([])
    left.set_yticks([])
    left.spines[:].set(color="#BBBBBB", linewidth=0.7)
    left.set_box_aspect(1)
    heading(left, f"t-SNE: {facts}")
    bar = figure.colorbar(drawn, ax=left, orientation="horizontal", fraction=0.05, pad=0.03)
    bar.outline.set_visible(False)
    name_axes(bar.ax, found.meaning)
    draw_images(right, found.embedding, np.moveaxis(pictures, -1, 1))
    heading(right, "the same, with frames")
    caption(figure, f"{found.words}. Axes have no unit.")
    main_title(figure, title)
    return figure
