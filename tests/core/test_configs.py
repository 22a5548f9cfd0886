import json

import pytest
from pydantic import Field, ValidationError

from pipelines.core.configs import algorithms, stages
from pipelines.core.configs.algorithms import PearlConfig, SacConfig
from pipelines.core.configs.base import Config, flatten, flatten_fields, merge, nearest, parse_set, resolve
from pipelines.core.configs.stages import CollectConfig, DistillConfig, MetatrainConfig, TrainConfig
from pipelines.core.errors import UsageError


class Inner(Config):
    depth: int = 1


class Outer(Config):
    width: float = Field(2.0, gt=0)
    inner: Inner = Inner()


def subclasses(kind):
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


BASES = (stages.AgentConfig, stages.LearnerConfig)
SHIPPED = [kind for kind in subclasses(Config) if kind.__module__.startswith("pipelines.core.configs.")]


def usage(config, *layers):
    with pytest.raises(UsageError) as caught:
        resolve(config, *layers)
    return f"{caught.value.cause} | {caught.value.hint}"


def test_the_rightmost_layer_wins_leaf_by_leaf():
    merged = merge({"a": 1, "n": {"x": 1, "y": 1}}, {"n": {"y": 2}}, {"a": 3})
    assert merged == {"a": 3, "n": {"x": 1, "y": 2}}
    assert merge({"n": {"x": 1}}, {"n": 5}) == {"n": 5}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("width=3", {"width": 3}),
        ("inner.depth=2", {"inner": {"depth": 2}}),
        ("hidden=[64, 64]", {"hidden": [64, 64]}),
        ("rate=1e-3", {"rate": "1e-3"}),  # YAML 1.1 reads this as text; the config's type turns it into a number
        ("label=a=b", {"label": "a=b"}),
        ("on=true", {"on": True}),
    ],
)
def test_assignments_are_yaml(text, want):
    assert parse_set(text) == want


def test_an_exponent_without_a_point_is_still_a_number():
    assert resolve(SacConfig, parse_set("learning_rate=1e-3")).learning_rate == 1e-3


@pytest.mark.parametrize("text", ["width", "=3", "width=[1"])
def test_assignments_that_are_none(text):
    with pytest.raises(UsageError):
        parse_set(text)


def test_flatten_gives_every_leaf_in_order():
    assert list(flatten(Outer())) == [("width", 2.0), ("inner.depth", 1)]
    assert [name for name, _ in flatten_fields(Outer)] == ["width", "inner.depth"]


def test_nearest_names_one_or_all():
    assert nearest("alhpa", ["alpha", "beta"], "names") == "did you mean alpha?"
    assert nearest("zzz", ["beta", "alpha"], "names") == "names: alpha, beta"


def test_an_unknown_field_is_refused_with_the_nearest():
    assert usage(Outer, {"widht": 3}) == "unknown field 'widht' | did you mean width?"
    assert "'inner.dept' | did you mean inner.depth?" in usage(Outer, {"inner": {"dept": 3}})
    assert "'updtes' | did you mean updates?" in usage(TrainConfig, {"updtes": 3})
    assert "'agent.bach_size' | did you mean agent.batch_size?" in usage(TrainConfig, {"agent": {"bach_size": 3}})


def test_a_bad_value_names_its_field():
    assert "'width'" in usage(Outer, {"width": -1})
    assert "got -1" in usage(Outer, {"width": -1})
    assert "'agent.learning_rate'" in usage(TrainConfig, {"agent": {"learning_rate": 0}})
    assert "'algorithm'" in usage(MetatrainConfig, {"algorithm": "td4"})


def test_a_field_without_a_value_is_named():
    class Needy(Config):
        family: str

    assert "field 'family' has no value | give it with --set family=..." in usage(Needy)


def test_the_agent_is_that_of_the_algorithm():
    assert type(resolve(MetatrainConfig).agent) is SacConfig
    pearl = resolve(MetatrainConfig, {"algorithm": "batch-pearl", "agent": {"latent_dim": 7}})
    assert type(pearl.agent) is PearlConfig
    assert pearl.agent.latent_dim == 7
    assert "'agent.latent_dim'" in usage(MetatrainConfig, {"agent": {"latent_dim": 7}})  # SAC has no latent


@pytest.mark.parametrize(
    ("config", "fields", "hint"),
    [
        (TrainConfig, {"updates": 1000, "block_updates": 300}, "block_updates=250"),
        (CollectConfig, {"steps": 7, "block_steps": 500}, "block_steps=7"),
        (DistillConfig, {"updates": 10, "block_updates": 4}, "block_updates=2"),
        (CollectConfig, {"steps": 1000, "num_envs": 8}, "num_envs=5"),
        (TrainConfig, {"select": "online"}, "eval_every=500"),
    ],
)
def test_blocks_are_whole_and_the_hint_fits(config, fields, hint):
    assert hint in usage(config, fields)
    resolve(config, fields, parse_set(hint))


def test_evaluations_come_at_block_ends():
    said = usage(TrainConfig, {"eval_every": 700})
    assert said == "eval_every=700 is not a multiple of block_updates=500 | for example --set block_updates=350"
    assert resolve(TrainConfig, {"eval_every": 1500, "select": "online"}).eval_every == 1500


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("frist:10", "did you mean first?"),
        ("lats:10", "did you mean last?"),
        ("10", "rules: all, first, last"),
        ("first", "N is a number of rows"),
        ("first:", "N is a number of rows"),
        ("first:0", "N is a number of rows"),
        ("last:-3", "N is a number of rows"),
        ("first:2e5", "N is a number of rows"),
        ("all:5", "N is a number of rows"),
    ],
)
def test_rows_that_cannot_be_kept(text, hint):
    said = usage(CollectConfig, {"keep": text})
    assert said.startswith(f"keep={text} is none of all, first:N, last:N | ")
    assert hint in said


def test_rows_that_are_kept():
    assert stages.parse_keep("all") == ("all", 0)
    assert stages.parse_keep("first:200000") == ("first", 200_000)
    assert resolve(CollectConfig, parse_set("keep=last:5")).keep == "last:5"


@pytest.mark.parametrize(
    ("config", "fields", "said"),
    [
        (CollectConfig, {"warmup": "random"}, "'warmup'"),
        (CollectConfig, {"num_envs": 0}, "'num_envs'"),
        (CollectConfig, {"snapshot_every": 0}, "'snapshot_every'"),
        (CollectConfig, {"snapshots_every": 5}, "did you mean snapshot_every?"),
        (CollectConfig, {"overlp": True}, "did you mean overlap?"),
        (CollectConfig, {"agent": {"critic_hiden": [8]}}, "did you mean agent.critic_hidden?"),
        (TrainConfig, {"select": "best"}, "'select'"),
        (TrainConfig, {"eval_evry": 500}, "did you mean eval_every?"),
        (TrainConfig, {"algorithm": "cql", "agent": {"critic_hidden": [8]}}, "'agent.critic_hidden'"),
    ],
)
def test_bad_values_of_collectors_and_learners(config, fields, said):
    assert said in usage(config, fields)


def test_what_came_later_leaves_ids_alone_until_it_is_set():
    """Artifacts made before there were these fields keep their ids."""
    before = {"family", "algorithm", "steps", "random_steps", "block_steps", "num_snapshots", "mapping", "agent"}
    assert set(CollectConfig().identity()) == before
    assert set(CollectConfig(keep="first:9", num_envs=5).identity()) == before | {"keep", "num_envs"}
    assert set(TrainConfig().identity()) == before - {"family", "steps", "random_steps", "block_steps"} | {
        "updates",
        "block_updates",
    }
    assert "critic_hidden" not in SacConfig().identity()


def test_configs_are_frozen():
    with pytest.raises(ValidationError):
        Outer().width = 3.0


ONLINE_ONLY = {stages.MetatrainConfig: {"pearl"}}  # what is made from a log that it has collected itself


@pytest.mark.parametrize("kind", [kind for kind in SHIPPED if kind not in BASES])
def test_defaults_build_and_survive_a_card(kind):
    config = kind()
    again = kind.model_validate(json.loads(json.dumps(config.model_dump(mode="json"))))
    assert again == config


def test_every_selectable_algorithm_has_its_config():
    for kind in set(subclasses(stages.AgentConfig)) - set(BASES):
        choices = kind.model_fields[kind.SELECTOR].annotation.__args__
        assert set(choices) == set(kind.AGENTS) | ONLINE_ONLY.get(kind, set()), kind
        for choice, agent in kind.AGENTS.items():
            assert type(resolve(kind, {kind.SELECTOR: choice}).agent) is agent
            assert issubclass(agent, Config)
            assert agent.__module__ == algorithms.__name__
