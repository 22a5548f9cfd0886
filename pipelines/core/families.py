"""What there is to run on, for listings and estimates: jax-free. `pipelines.tasks.registry` builds the families."""

from typing import NamedTuple


class Entry(NamedTuple):
    """A family's line in a listing, and the sizes that decide what a run costs."""

    help: str
    num_train: int
    num_test: int
    obs_dim: int
    action_dim: int
    horizon: int


FAMILIES: dict[str, Entry] = {
    "point-semicircle/time": Entry(
        "a point, 1 of 3 goals on a semicircle of radius 10 (tiMe 5.1); test = training goals", 3, 3, 2, 2, 20
    ),
    "point-semicircle/spread": Entry(
        "the same point; 15 training goals, 14 unseen test goals at their midpoints", 15, 14, 2, 2, 20
    ),
}
