"""`omrl metatrain --online`: two artifacts of one command, and what it refuses."""

import json
from pathlib import Path

import pytest

from pipelines.store.shelf import Shelf

TINY = ("--preset", "tiny", "--set", "family=point-semicircle/time")


def test_a_log_and_a_policy(omrl, store: Path) -> None:
    said = omrl("metatrain", "--online", "--method", "td3", *TINY, "--seed", "3", "--name", "mine")
    assert said.code == 0, said.err
    shelf = Shelf(store)
    log, policy = sorted(shelf.cards(), key=lambda card: card.kind, reverse=True)
    assert (log.kind, log.stage, policy.kind, policy.stage) == ("replay-log", "online", "meta-policy", "metatrain")
    assert said.out.strip() == policy.id
    assert policy.parents["log"].id == log.id
    assert (policy.seed, policy.extra["trained"], shelf.alias(policy.id)) == (3, "online", "meta-policy/mine@1")
    again = omrl("metatrain", "--online", "--method", "td3", *TINY, "--seed", "3", "--json")
    assert (again.code, json.loads(again.out)["made"]) == (0, False)
    assert again.err.count("up to date") == 2
    plan = omrl("metatrain", "--online", "--algorithm", "td3", *TINY, "--seed", "4", "--dry-run", "--json")
    rows = json.loads(plan.out)["plan"]
    assert [row["step"] for row in rows] == ["online", "metatrain"]
    assert all(row["seconds"] > 0 for row in rows)
    offline = omrl("metatrain", "--algorithm", "td3", "--preset", "tiny", "--log", log.id)
    assert offline.code == 0, offline.err
    assert shelf.find(offline.out.strip()).extra["trained"] == "offline"


@pytest.mark.parametrize(
    ("arguments", "code", "cause", "hint"),
    [
        (("metatrain", "--algorithm", "mql"), 3, "metatrain needs --log, a replay-log", "--online"),
        (("metatrain", "--online", "--log", "replay-log/x"), 2, "--online makes a log of its own", "leave --log out"),
        (("metatrain", "--online", "--algorithm", "batch-sac"), 2, "batch-sac does not learn online", "mql"),
        (("metatrain", "--online", "--set", "family=halfcheetah-vle/mql"), 2, "halfcheetah-vle", "halfcheetah-vel"),
        (("metatrain", "--online", "--set", "num_tasks=99"), 2, "num_tasks=99", "num_tasks=15"),
        (("metatrain", "--online", "--set", "iterations=7"), 2, "iterations=7 is not a multiple", "block_iterations=7"),
        (("metatrain", "--algorithm", "pearl", "--log", "x"), 2, "pearl learns online", "batch-pearl"),
    ],
    ids=lambda value: "",
)
def test_what_is_refused(omrl, arguments, code, cause, hint) -> None:
    said = omrl(*arguments)
    assert said.code == code, said.err
    first, second = said.err.strip().splitlines()[-2:]
    assert cause in first
    assert hint in second


def test_gridworlds_are_refused(omrl) -> None:
    said = omrl("metatrain", "--online", "--preset", "tiny", "--set", "family=gridworld/borel")
    assert said.code == 2
    assert "mql cannot act in a family with 5 discrete actions" in said.err
