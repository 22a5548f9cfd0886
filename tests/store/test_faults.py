import signal
import subprocess
import sys
from pathlib import Path

from pipelines.store.faults import POINTS, fault_point


def test_only_the_named_point_kills(monkeypatch):
    monkeypatch.delenv("OMRL_FAULT", raising=False)
    for point in POINTS:
        fault_point(point)
    monkeypatch.setenv("OMRL_FAULT", "in-rename")
    fault_point("after-card")
    code = "from pipelines.store.faults import fault_point; fault_point('in-rename'); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")
