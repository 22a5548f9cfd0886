"""Every test sees jax as a stage does (one host device per core, compiled programs cached), and no OMRL_ variable."""

import gc
import os
import signal

import pytest

from pipelines.core import platform

gc.set_threshold(100_000, 50, 100)  # tracing makes millions of objects: to walk through them all is a tenth of the time
platform.prepare()  # once per process, before anything makes an array
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: what tests start must hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("OMRL_") and name != "OMRL_CACHE":
            monkeypatch.delenv(name)
