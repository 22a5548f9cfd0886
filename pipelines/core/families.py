"""What there is to run on, for `omrl families`: jax-free, so that a listing costs nothing."""

FAMILIES: dict[str, str] = {
    "point-semicircle/time": "a point finds 1 of 3 goals on a semicircle of radius 10 (tiMe 5.1); test goals = training goals",
    "point-semicircle/spread": "the same point; 15 training goals on the arc, 14 unseen test goals at their midpoints",
}
