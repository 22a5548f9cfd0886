"""The loop of the stages that learn one policy across tasks: metatrain and distill."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.configs.base import Config
from pipelines.core.learn import block, stage_key
from pipelines.core.names import slug
from pipelines.core.trees import to_dict
from pipelines.core.types import Space
from pipelines.core.work import Product, Work
from pipelines.stages import learners
from pipelines.stages.blocks import Plan, run_blocks, snapshot_arrays


def run_across(
    work: Work, stage: str, name: str, data: Any, headline: str, agent: Config | None = None, **asks: Any
) -> Product:
    """Learns algorithm `name` on `data` (leading axis T) and returns the meta-policy.

    `agent` is its config, where that of `work` leaves something to be settled; `asks` is what it asks of others.
    """
    config: Any = work.config
    agent = config.agent if agent is None else agent
    card = work.inputs["log"].card
    space = Space.from_json(card.extra["space"])
    algorithm = learners.make(name, agent, space, card.extra["discount"], **asks)
    init_key, key = jax.random.split(stage_key(work.seed, stage))
    data = jax.tree.map(jnp.asarray, data)
    carry = jax.jit(algorithm.init)(init_key, data)
    advance = jax.jit(block(algorithm, config.block_updates), donate_argnums=1)
    plan = Plan(config.updates, config.block_updates, config.num_snapshots, "update", headline)

    def step(number: int, carry: Any) -> tuple[Any, dict[str, Any]]:
        carry, metrics = advance(np.int32(number), carry, data, key)
        return carry, jax.tree.map(np.asarray, metrics)

    def acting(carry: Any) -> Any:
        return jax.tree.map(np.asarray, algorithm.acting(carry))

    carry, snapshots = run_blocks(work, plan, carry, step, acting, lambda held: jax.tree.map(jnp.array, held))
    return Product(
        arrays={"acting": to_dict(acting(carry)), **snapshot_arrays(snapshots)},
        tasks=list(card.tasks),
        extra=learners.model_card(name, agent, card),
        name=slug(f"{name} {card.extra['family']}"),
    )
