"""What `omrl eval` reads of its options before it is an order: whose context and log, and whose seed."""

from dataclasses import replace

from omrl_cli.options import OneStage
from omrl_cli.orders import find_parent, spec_of
from pipelines.core.configs.base import nearest
from pipelines.core.errors import InputMissing, UsageError
from pipelines.store.card import Card

OFFLINE = "offline:"


def prepared(common: OneStage, policy: str | None, context: str | None) -> tuple[OneStage, str | None]:
    """(the options with the policy's own seed, the log that contexts come from).

    A report belongs to the policy's chain, whatever logs it is shown. Raises UsageError for a context that is neither
    `own` nor `offline:REF`, InputMissing where there is no own one.
    """
    if context is not None and context != "own" and not context.startswith(OFFLINE):
        raise UsageError(f"--context {context} is neither own nor offline:REF", _guess(context))
    if policy is None:  # which is refused later, with a list of those that there are
        return common, None
    card = find_parent(spec_of("eval"), "policy", policy, common.shelf())
    if common.seed is None:
        common = replace(common, seed=card.seed)
    if context is None:
        return common, None
    if context == "own":
        return common, own_log(common, card, f"--context {OFFLINE}REF")
    return common, context.removeprefix(OFFLINE)


def _guess(context: str) -> str:
    kind, colon, _ = context.partition(":")
    return (
        f"--context {OFFLINE}{context}" if not colon and "/" in kind else nearest(kind, ["own", "offline:REF"], "it is")
    )


def adapted_with(common: OneStage, policy: str | None, protocol: str | None, log: str | None) -> str | None:
    """The log that --protocol adapt weighs the rows of: the policy's own unless another is named. Raises InputMissing
    where there is no own one."""
    if policy is None or (log is None and protocol != "adapt") or log not in (None, "own"):
        return log
    return own_log(common, find_parent(spec_of("eval"), "policy", policy, common.shelf()), "make it again")


def own_log(common: OneStage, policy: Card, otherwise: str) -> str:
    """A reference to the very log that a policy was learned from; a log's own agents have that log. Raises
    InputMissing, `otherwise` its hint."""
    made_from = policy.parents.get("log")
    if made_from is None:
        return policy.ref
    assert not isinstance(made_from, list)
    shelf = common.shelf()
    for generation in reversed(shelf.generations(made_from.id)):
        card = shelf.find(f"{made_from.id}@{generation}")
        if card.digest == made_from.digest:
            return card.ref
    raise InputMissing(f"the log {made_from.id} that {policy.id} was learned from is not there", otherwise)
