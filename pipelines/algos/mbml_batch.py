"""What one update of MBML sees: rows and what their teachers say of them, contexts, and rows paid as in other tasks.

Relabelled rows are drawn from the pools of a relabelled-log, or made of the update's own contexts by asking ensembles,
as the original does. T tasks, N log rows, B batch, S context sets, L context, Z noise.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pipelines.algos.distilled import Lesson, Teach
from pipelines.algos.models import Ensembles, Judge, Limits, on_the_fly
from pipelines.core.configs.algorithms import MbmlConfig
from pipelines.core.samplers import Foreign, Pool, foreign_rows, pair_rows, row_numbers, some_of
from pipelines.core.types import Array, Log, Transition, transitions


class Questions(NamedTuple):
    """What ensembles are asked with, on the fly."""

    ensembles: Ensembles  # [T, ...]
    tasks: Array  # [T, P]
    limits: Limits  # [T]


class Data(NamedTuple):
    """The logs; for each row, the value that its own task's teacher gives it; the teachers; relabelled rows."""

    logs: Log  # [T, N, ...]
    teacher_q: Array  # [T, N]
    teachers: Any = ()  # their acting states [T, ...]
    relabelled: Any = ()  # Pool, Questions, or () where there is no relabelling


class Batch(NamedTuple):
    row: Transition  # [T, B]
    teacher_q: Array  # [T, B]
    lesson: Lesson  # [T, B]
    own: Transition  # [T, S, L] contexts of the tasks' own rows
    foreign: Any  # Foreign [T, L']: rows of any other task under task i; () without relabelling
    pairs: Any  # Foreign [T, T, L]: rows of task j under task i; () unless triplets are made of them


class Sizes(NamedTuple):
    sets: int  # S
    own: int  # L
    foreign: int  # L'


def sizes_of(config: MbmlConfig) -> Sizes:
    """Without relabelling a context is as large, of own rows alone; batch-hard wants several of them."""
    if config.relabel != "none":
        return Sizes(1, config.context_size, config.foreign_size)
    return Sizes(config.num_contexts if config.triplet else 1, config.context_size + config.foreign_size, 0)


def make_sample(config: MbmlConfig, teach: Teach, judge: Judge | None) -> Callable[[Data, Array], Batch]:
    """`sample(data, key) -> Batch`. `judge` is needed where ensembles are asked."""
    sets, size, foreign_size = sizes_of(config)

    def of_task(log: Log, teacher_q: Array, teacher: Any, key: Array) -> tuple[Transition, Array, Lesson, Transition]:
        row_key, context_key, lesson_key = jax.random.split(key, 3)
        number = row_numbers(log, row_key, config.batch_size)
        context = row_numbers(log, context_key, sets * size).reshape(sets, size)
        row = transitions(log, number)
        return row, teacher_q[number], teach(teacher, row, lesson_key), transitions(log, context)

    def drawn(logs: Log, pool: Pool, key: Array) -> tuple[Foreign, Foreign]:
        count = logs.size.shape[0]
        tasks, (foreign_key, pair_key) = jnp.arange(count), jax.random.split(key)

        def foreign(i: Array, key: Array) -> Foreign:
            return foreign_rows(logs, pool, i, key, foreign_size)

        def pair(i: Array, j: Array, key: Array) -> Foreign:
            return pair_rows(logs, pool, i, j, key, size)

        of_pairs = jax.vmap(jax.vmap(pair, (None, 0, 0)), (0, None, 0))
        keys = jax.random.split(pair_key, (count, count))
        return jax.vmap(foreign)(tasks, jax.random.split(foreign_key, count)), of_pairs(tasks, tasks, keys)

    def asked(context: Transition, questions: Questions, key: Array) -> tuple[Foreign, Foreign]:
        """Of the contexts `[T, L]` themselves."""
        assert judge is not None
        count = context.reward.shape[0]
        flat = jax.tree.map(lambda leaf: leaf.reshape(count * size, *leaf.shape[2:]), context)
        owner = jnp.repeat(jnp.arange(count), size)

        def under(i: Array, ensembles: Ensembles, task: Array, limits: Limits, key: Array) -> tuple[Foreign, Foreign]:
            found = on_the_fly(judge(ensembles, task, limits, flat), flat)
            found = found._replace(valid=found.valid & (owner != i))
            number = some_of(found.valid, key, foreign_size)
            at = jnp.minimum(number, count * size - 1)
            some = jax.tree.map(lambda leaf: leaf[at], found)._replace(valid=number < count * size)
            return some, jax.tree.map(lambda leaf: leaf.reshape(count, size, *leaf.shape[1:]), found)

        return jax.vmap(under)(jnp.arange(count), *questions, jax.random.split(key, count))

    def sample(data: Data, key: Array) -> Batch:
        own_key, foreign_key = jax.random.split(key)
        keys = jax.random.split(own_key, data.logs.size.shape[0])
        row, q, lesson, own = jax.vmap(of_task)(data.logs, data.teacher_q, data.teachers, keys)
        if config.relabel == "none":
            return Batch(row, q, lesson, own, (), ())
        if isinstance(data.relabelled, Pool):
            foreign, pairs = drawn(data.logs, data.relabelled, foreign_key)
        else:
            foreign, pairs = asked(jax.tree.map(lambda leaf: leaf[:, 0], own), data.relabelled, foreign_key)
        return Batch(row, q, lesson, own, foreign, pairs if config.triplet else ())

    return sample
