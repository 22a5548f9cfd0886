"""`omrl eval` and its protocols, as a user types them."""

import json

import pytest

POINT = ("--family", "point-semicircle/time", "--preset", "tiny")
SHORT = ("--set", "steps=60", "--set", "random_steps=40", "--set", "block_steps=20", "--set", "num_snapshots=0")
BRIEF = ("--preset", "tiny", "--set", "updates=2", "--set", "block_updates=1", "--set", "num_snapshots=0")
FEW = ("--preset", "tiny", "--episodes", 1, "--set", "curve_episodes=0", "--json")


def told(said):
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_the_options_are_there(omrl) -> None:
    said = omrl("eval", "--protocol", "episodes", "--help")
    assert said.code == 0
    for name in (
        "protocol",
        "trial-episodes",
        "counted",
        "context",
        "context-rows",
        "checkpoint",
        "probe",
        "relabelled",
    ):
        assert f"--{name} " in said.out
    assert "own|offline:REF" in said.out


@pytest.mark.parametrize(
    ("options", "cause", "hint"),
    [
        (("--protocol", "episode"), "'episode' is none of its values", "did you mean episodes?"),
        (("--checkpoint", "best-on-tset"), "'best-on-tset' is none of its values", "did you mean best-on-test?"),
        (("--protocol", "episodes", "--counted", "firs"), "none of all, last, N, A-B", "rules: all, last"),
        (("--protocol", "episodes", "--trial-episodes", 2, "--counted", "3-5"), "2 episodes", "trial_episodes=5"),
        (("--counted", "last"), "protocol=zero-shot has none", "--protocol episodes"),
        (("--context", "onw"), "neither own nor offline:REF", "did you mean own?"),
        (("--context", "offlin:log"), "neither own nor offline:REF", "did you mean offline:REF?"),
        (("--context", "replay-log/mine"), "neither own nor offline:REF", "--context offline:replay-log/mine"),
    ],
)
def test_what_means_nothing_is_refused(omrl, options, cause, hint) -> None:
    said = omrl("eval", *options)
    assert said.code == 2
    assert cause in said.err
    assert hint in said.err


def test_protocols_from_end_to_end(omrl) -> None:
    """The policy's own log is found, and the report has the policy's seed whatever logs it is shown."""
    for name, seed in (("mine", 3), ("other", 4)):
        told(omrl("collect", *POINT, *SHORT, "--seed", seed, "--name", name, "--json"))
    learn = ("--algorithm", "batch-pearl", "--name", "pearl", "--json")
    policy = told(omrl("metatrain", "--log", "replay-log/mine", *learn, *BRIEF))
    trials = ("--protocol", "episodes", "--trial-episodes", 2, "--counted", "last", "--context-rows", 9)
    evaluate = ("eval", "--policy", "meta-policy/pearl", *FEW, *trials)
    found = told(omrl(*evaluate, "--context", "own"))
    assert found["seed"] == policy["seed"] == 3
    assert found["parents"]["context"] == policy["parents"]["log"]
    assert found["metrics"]["return"] == pytest.approx(found["metrics"]["return/episode 2"])
    assert "return/episode 3" not in found["metrics"]
    offline = ("--context", "offline:replay-log/other")
    plans = [told(omrl(*evaluate, *more, "--dry-run"))["plan"][0] for more in ((), offline)]
    assert [plan["seed"] for plan in plans] == [3, 3]
    assert len({found["id"], *(plan["id"] for plan in plans)}) == 3
    probe = ("--protocol", "probe", "--probe", "replay-log/other", "--context-rows", 20)
    said = omrl("eval", "--policy", "meta-policy/pearl", *FEW, *probe, "--name", "probed")
    assert 0 <= told(said)["metrics"]["probe/nearest_own"] <= 1
    assert "reward share" in said.err
    page = told(omrl("report", "--reports", "report/probed", "--set", "proposition=false", "--json"))
    assert "point-semicircle/time/probe/batch PEARL/stray" in page["metrics"]


def test_a_policy_that_is_not_there_has_no_context(omrl) -> None:
    said = omrl("eval", "--policy", "meta-policy/none", "--context", "own")
    assert said.code == 3
    assert "--policy" in said.err
