"""How a peer waits for its turn: a line of JSON on stdin is a question, a line of JSON on stdout the answer.

Whatever a library prints goes to stderr. `benchmarks.rivals` is the other end; nothing here is omrl's.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

_OUT = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), file=_OUT, flush=True)


def answer(facts: dict[str, Any], reply: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Says `facts` and then answers questions until there are no more."""
    say(facts)
    for line in sys.stdin:
        say(reply(json.loads(line)))


def take_turns(facts: dict[str, Any], run: Callable[[], object], updates: int, seconds: float) -> None:
    """`run()` makes `updates` updates; a turn is as many calls as take about `seconds`."""

    def timed(calls: int) -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        return time.perf_counter() - begin

    timed(2)
    calls = max(1, round(seconds / timed(1)))
    answer(
        facts | {"updates_per_turn": calls * updates},
        lambda question: {"updates_per_s": calls * updates / timed(calls)},
    )
