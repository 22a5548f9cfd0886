"""How MQL adapts: the paper's equations with its Table 1, and the released scripts (facts 2.5, 2.6, 3). jax-free.

Table 1 is read with its header turned by one column (see `mql_papers`). It says nothing of the logistic regression's
C and features, nor how small a beta is 0: those are the scripts' in both. (Eq. 13 knows no scale: without a floor rows
that all lie far from a task, each with the same tiny beta, would be worth as many as there are, and lambda 0.) The
paper's Adam has batches of 256 and the policy's own learning rate;
its theta, what is held near the meta-policy, are the actor's parameters.
"""

import math
from typing import Any

from pipelines.core.configs.adapt import AdaptConfig, decided
from pipelines.core.configs.base import nearest
from pipelines.core.configs.stages import body_of
from pipelines.core.errors import UsageError

Row = dict[str, Any]

COMMON: dict[str, Row] = {
    "paper": {
        "new_batch": 256,
        "old_batch": 256,
        "proximal": "ess",
        "proximal_new": True,
        "half": True,
        "anchored": "actor",
        "clip_on": "value",
        "floor": 0.1,
        "balanced": True,
        "new_rows": "once",
        "recent": 0,
    },
    "code": {
        "new_batch": 0,
        "learning_rate": 1e-3,  # torch's default: the scripts' own is not passed on
        "proximal": 0.1,
        "proximal_new": False,
        "half": False,
        "anchored": "both",
        "clip_on": "logit",
        "floor": 0.1,
        "balanced": False,
        "new_rows": "bootstrap",
    },
}


def _script(clip: float, new: int, old: int, batch: int, strength: float, features: str, recent: int) -> Row:
    updates = {"clip": clip, "new_updates": new, "old_updates": old, "old_batch": batch}
    return {**updates, "strength": strength, "features": features, "recent": recent}


def _table(clip: float, new: int, old: int) -> Row:
    return {"clip": clip, "new_updates": new, "old_updates": old}


BODIES: dict[str, dict[str, Row]] = {
    "code": {
        "humanoid-dir": _script(2.0, 5, 15, 1_280, 0.1, "obs+z", 2_000),
        "halfcheetah-vel": _script(1.0, 10, 100, 1_280, 0.1, "z", 2_000),
        "ant-fwd-back": _script(1.2, 5, 400, 1_280, 0.05, "z", 2_000),
        "ant-goal": _script(2.0, 10, 150, 256, 0.1, "obs+z", 1_000),
        "walker-params": _script(1.1, 10, 400, 1_280, 0.06, "obs+z", 4_000),
        "halfcheetah-dir": _script(1.5, 10, 50, 2_560, 0.5, "z", 2_000),
    },
    "paper": {
        "humanoid-dir": _table(1.1, 5, 400),
        "halfcheetah-vel": _table(1.0, 10, 100),
        "ant-fwd-back": _table(1.2, 5, 400),
        "ant-goal": _table(2.0, 10, 400),
        "walker-params": _table(0.8, 10, 300),
        "halfcheetah-dir": _table(1.0, 10, 200),
    },
}
PLAIN = "halfcheetah-vel"  # the row of families that have none


def settled(config: AdaptConfig, family: str) -> AdaptConfig:
    """The config with everything said. Raises UsageError for a body without a row, and where every beta would be 0."""
    body = body_of(family) if config.body is None else config.body
    if config.body is not None and body not in BODIES["code"]:
        cause = f"adapt.body={body} has no row of settings"
        raise UsageError(cause, nearest(body, list(BODIES["code"]), "these have"))
    body = body if body in BODIES["code"] else PLAIN
    script = BODIES["code"][body]
    fit = {name: script[name] for name in ("strength", "features")}
    found = decided(
        config.model_copy(update={"body": body}), fit, COMMON[config.settings], BODIES[config.settings][body]
    )
    assert found.clip is not None
    assert found.floor is not None
    most = math.exp(found.clip) if found.clip_on == "logit" else found.clip
    if found.floor > most:
        cause = f"adapt.floor={found.floor:g} is above the greatest beta there can be, {most:.4g}: all would be 0"
        raise UsageError(cause, f"--set adapt.floor={min(0.1, most):g}, or adapt.old_updates=0 for Eq. 18 alone")
    return found
