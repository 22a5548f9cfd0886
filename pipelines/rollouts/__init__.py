"""Policies meet families. Two drivers (`scan` for device families, `loop` for host families), one result."""

from pipelines.rollouts.episodes import Episodes
from pipelines.rollouts.loop import zero_shot as host_zero_shot
from pipelines.rollouts.recording import Recorder, cut, record, recorder
from pipelines.rollouts.scan import Live, begin, step, zero_shot

__all__ = ["Episodes", "Live", "Recorder", "begin", "cut", "host_zero_shot", "record", "recorder", "step", "zero_shot"]
