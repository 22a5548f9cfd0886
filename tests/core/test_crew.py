"""Several processes at one stage: who they are, and how a failure of one becomes known to all. Real processes are in
tests/journey/test_crew.py."""

import pytest

from pipelines.core.crew import ALONE, FAILED, GO, RESUME, Crew, place
from pipelines.core.errors import StageFailed, UsageError


def test_a_place_in_a_job():
    assert place("auto") is None
    assert place("node7:1234,4,3") == ("node7:1234", 4, 3)
    assert place("[::1]:80,2,0") == ("[::1]:80", 2, 0)


@pytest.mark.parametrize("text", ["", "node7", "node7:x,2,0", ":80,2,0", "node7:80,2", "node7:80,2,-1", "node7:80,a,0"])
def test_what_is_no_place_is_refused(text):
    with pytest.raises(UsageError, match="neither auto nor HOST:PORT,N,I") as error:
        place(text)
    assert "--cluster auto" in error.value.hint


@pytest.mark.parametrize("text", ["node7:80,2,2", "node7:80,0,0"])
def test_a_number_beyond_the_job_is_refused(text):
    with pytest.raises(UsageError, match="process"):
        place(text)


class Others:
    """All processes say `words` when they meet; `heard` is what this one said, each time."""

    def __init__(self, *words):
        self.words, self.heard = words, []

    def __call__(self, word):
        self.heard.append(word)
        return list(self.words)


def test_alone_nobody_is_waited_for():
    others = Others(FAILED)
    crew = Crew(0, 1, others)
    assert (ALONE.meet(RESUME), crew.meet(RESUME)) == (RESUME, RESUME)
    with pytest.raises(KeyError), crew.together():
        raise KeyError
    assert others.heard == []


def test_all_hear_the_leaders_word():
    others = Others(RESUME, GO, GO)
    assert [Crew(number, 3, others).meet() for number in range(3)] == [RESUME] * 3
    assert [Crew(number, 3, others).leads for number in range(3)] == [True, False, False]


def test_the_others_hear_who_failed():
    others = Others(GO, FAILED)
    crew = Crew(0, 2, others)
    with pytest.raises(StageFailed, match="process 1 of 2 failed") as error, crew.together():
        crew.meet()
    assert "--resume" in error.value.hint
    assert others.heard == [GO]  # who knows of the failure waits for nobody any more


def test_whoever_fails_says_so_once():
    others = Others(GO, FAILED)
    crew = Crew(1, 2, others)
    with pytest.raises(KeyboardInterrupt), crew.together():
        raise KeyboardInterrupt
    assert others.heard == [FAILED]
    crew.meet(FAILED)
    assert others.heard == [FAILED]
