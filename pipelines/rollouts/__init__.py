"""Policies meet families. Two drivers (`scan` for device families, `loop` for host families), one result."""

from pipelines.rollouts.episodes import Episodes, Lineup, Trials, begin_task
from pipelines.rollouts.loop import trials as host_trials
from pipelines.rollouts.loop import zero_shot as host_zero_shot
from pipelines.rollouts.recording import Recorder, cut, record, recorder
from pipelines.rollouts.scan import Live, begin, step, trials, zero_shot

__all__ = [
    "Episodes",
    "Lineup",
    "Live",
    "Recorder",
    "Trials",
    "begin",
    "begin_task",
    "cut",
    "host_trials",
    "host_zero_shot",
    "record",
    "recorder",
    "step",
    "trials",
    "zero_shot",
]
