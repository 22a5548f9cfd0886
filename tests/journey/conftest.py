"""One undisturbed run of the whole chain, shared by all who test here."""

import json
import os
from collections.abc import Callable, Iterator

import pytest

from .driving import CHAIN, Running, Whole, alone, say


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """CHAIN, in one process, without a single checkpoint. Test processes that run side by side share it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    store, answer = shared / "whole", shared / "whole.json"
    with alone(shared / "whole.lock"):
        if not answer.exists():
            said = say(store, *CHAIN, "--json", OMRL_CHECKPOINT_S=3600)
            assert said.code == 0, said.err
            answer.write_text(said.out)
    return Whole(store, {step["step"]: step["id"] for step in json.loads(answer.read_text())["steps"]})


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts command lines (as `Running`), none of which outlives the test."""
    begun: list[Running] = []

    def begin(*arguments: object, **variables: object) -> Running:
        begun.append(Running(*arguments, **variables))
        return begun[-1]

    yield begin
    for running in begun:
        if running.process.poll() is None:
            running.process.kill()
            running.process.communicate()
