"""Presets: tables of differences from the config defaults, by budget. jax-free.

`tiny` takes seconds on a CPU and proves that the pipes hold, `small` takes minutes and means something, `paper` is the
paper's scale. A preset may shrink tasks, steps and nets, never horizon, reward, protocol or split. `agent` is for every
algorithm of the stage, `agents` has a row for each that wants something of its own; `bodies` has the rows of families
that want something of their own, and one under "" for the rest.
"""

from typing import Any

from pipelines.stages.baselines import FINETUNE, METATRAIN
from pipelines.stages.belief_papers import BELIEF
from pipelines.stages.borel_papers import BOREL, BOREL_ONLINE, BOREL_SMALL
from pipelines.stages.collectors import PAPERS
from pipelines.stages.distill_papers import DISTILL
from pipelines.stages.mql_papers import OFFLINE, ONLINE, SMALL

NAMES = ("tiny", "small", "paper")

_TINY_SAC = {"hidden": [16, 16], "batch_size": 16}
_SMALL_SAC = {"hidden": [128, 128], "batch_size": 128, "learning_rate": 1e-3}
# the published sizes; what a paper leaves to the task (MQL's TD3 noises) stands at its default
_PAPER_TRAIN: dict[str, dict[str, Any]] = {
    "bcq": {"hidden": [400, 300], "vae_hidden": [750, 750], "batch_size": 100},
    "cql": {"hidden": [256, 256, 256], "actor_learning_rate": 3e-5},
    "discrete-bcq": {"hidden": [512, 512], "batch_size": 32},
}
_TINY_LOOP = {"updates": 40, "block_updates": 20, "num_snapshots": 2}
_SMALL_LOOP = {"updates": 5_000, "block_updates": 500}

# collecting: positions and distances of the point families reach 10 to 20; online there is no log yet to fit scales to
_SMALL_POINT = {"agent": {**_SMALL_SAC, "obs_scale": 10.0, "reward_scale": 10.0}}
# bodies that push and are pushed want more steps than a point, and with all their tasks would take an hour
_SMALL_MOVING = {"steps": 20_000, "random_steps": 2_000, "agent": _SMALL_SAC}
_SMALL_FEW = {**_SMALL_MOVING, "num_tasks": 4}
_SMALL_BODIES = {
    "": _SMALL_POINT,
    "halfcheetah-vel": _SMALL_FEW,
    "halfcheetah-dir": _SMALL_MOVING,  # two tasks
    "hopper-vel": _SMALL_FEW,
    "ant-dir": _SMALL_FEW,
    "ant-fwd-back": _SMALL_MOVING,  # two tasks
    "ant-goal": _SMALL_FEW,
    "ant-semicircle": _SMALL_FEW,
    "humanoid-dir": _SMALL_FEW,
    "walker-params": _SMALL_FEW,
    "umaze-goal": _SMALL_FEW,
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "collect": {
        "tiny": {"steps": 200, "random_steps": 100, "block_steps": 50, "num_snapshots": 2, "agent": _TINY_SAC},
        "small": {"bodies": _SMALL_BODIES},
        "paper": {"papers": PAPERS},  # the row of the family's own paper
    },
    "online": {
        "tiny": {
            "random_steps": 60,
            "iterations": 4,
            "block_iterations": 2,
            "updates": 10,
            "num_snapshots": 2,
            "agent": _TINY_SAC,
            "agents": {
                "mql": {"history": 4, "context_dim": 4},
                "td3-context": {"history": 4, "context_dim": 4},
                "pearl": {"encoder_hidden": [16], "context_size": 8},
                "borel": {
                    "tasks_per_update": 2,
                    "trials_per_task": 2,
                    "belief": {"width": 16, "decoder_hidden": [8, 8]},
                },
            },
        },
        "small": {"bodies": {**SMALL, **BOREL_SMALL}},
        "paper": {"papers": {**ONLINE, **BOREL_ONLINE}},  # the row of the family's own variant
    },
    "import": {"tiny": {}, "small": {}, "paper": {}},
    "train": {
        "tiny": {
            **_TINY_LOOP,
            "agent": _TINY_SAC,
            "agents": {"bcq": {"vae_hidden": [16, 16]}, "cql": {"num_actions": 2}},
        },
        "small": {**_SMALL_LOOP, "agent": _SMALL_SAC, "agents": {"bcq": {"vae_hidden": [128, 128]}}},
        "paper": {"updates": 20_000, "agents": _PAPER_TRAIN},
    },
    "relabel": {
        "tiny": {
            "updates": 40,
            "block_updates": 20,
            "rows_per_pair": 64,
            "model": {"members": 4, "hidden": [16]},
            "transition": {"members": 4, "hidden": [16]},
            "transition_updates": 40,
        },
        "small": {"transition": {"hidden": [128, 128]}, "transition_updates": 4_000},
        "paper": {},
    },
    "replay": {"tiny": {"episodes": 2}, "small": {}, "paper": {}},
    "belief": {
        "tiny": {
            "updates": 20,
            "block_updates": 10,
            "num_snapshots": 2,
            "tasks_per_update": 2,
            "trials_per_task": 2,
            "width": 16,
            "decoder_hidden": [8, 8],
        },
        "small": {"updates": 4_000, "trials_per_task": 4, "learning_rate": 1e-3},
        "paper": {"papers": BELIEF},  # --set paper=borel/BODY takes a body's row
    },
    "metatrain": {
        "tiny": {
            **_TINY_LOOP,
            "agent": _TINY_SAC,
            "agents": {
                "contextual-bcq": {"vae_hidden": [16, 16]},
                "borel": {"tasks_per_update": 4, "num_actions": 2},
                "mql": {"history": 4, "context_dim": 4},
                "td3-context": {"history": 4, "context_dim": 4},
            },
        },
        "small": {**_SMALL_LOOP, "agent": _SMALL_SAC, "agents": {"contextual-bcq": {"vae_hidden": [128, 128]}}},
        "paper": {"papers": {**METATRAIN, **BOREL, **OFFLINE}},  # --set paper=mbml/BODY takes a body's row
    },
    "distill": {
        "tiny": {
            **_TINY_LOOP,
            "agent": {"q_hidden": [16, 16], "latent_dim": 4, "batch_size": 16},
            "agents": {
                "time": {
                    "encoder_hidden": [16],
                    "embed_hidden": [16],
                    "embed_dim": 16,
                    "predictor_hidden": [16],
                    "num_shots": 10,
                },
                "mbml": {"encoder_hidden": [16, 16], "context_size": 8, "foreign_size": 8, "num_contexts": 3},
            },
        },
        "small": {
            "updates": 12_000,
            "block_updates": 500,
            "agent": {"q_hidden": [128, 128], "batch_size": 128, "learning_rate": 1e-3},
            "agents": {
                "time": {
                    "encoder_hidden": [128],
                    "embed_hidden": [128],
                    "embed_dim": 128,
                    "predictor_hidden": [128],
                },
                "mbml": {"encoder_hidden": [128, 128]},
            },
        },
        "paper": {"papers": DISTILL},  # --set paper=mbml/BODY takes a body's row
    },
    "eval": {"tiny": {"episodes": 4, "curve_episodes": 2}, "small": {}, "paper": {}},
    "finetune": {
        "tiny": {
            "collect_steps": 100,
            "imitation": {"updates": 100, "batch_size": 16},
            "warmup_steps": 50,
            "steps": 150,
            "epoch_steps": 50,
            "eval_every": 50,
            "eval_episodes": 2,
            "episodes": 4,
            "agent": _TINY_SAC,
        },
        "small": {
            "collect_steps": 2_000,
            "imitation": {"updates": 2_000, "batch_size": 128, "learning_rate": 1e-3},
            "warmup_steps": 1_000,
            "steps": 10_000,
            "epoch_steps": 500,
            "eval_every": 500,
            "agent": _SMALL_SAC,
        },
        "paper": {"papers": FINETUNE},  # --set paper=mbml/BODY takes a body's row
    },
    "report": {"tiny": {}, "small": {}, "paper": {}},
}
