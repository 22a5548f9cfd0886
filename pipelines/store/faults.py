"""Named points at which a test kills the process, so that what a crash leaves behind is tried and not imagined."""

import os
import signal
from typing import Literal, get_args

Point = Literal["before-arrays", "arrays-no-card", "after-card", "in-rename", "before-checkpoint", "in-checkpoint"]
POINTS: tuple[Point, ...] = get_args(Point)


def fault_point(name: Point) -> None:
    """Dies of SIGKILL, here and now, if the environment says OMRL_FAULT=name."""
    if os.environ.get("OMRL_FAULT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
