"""Presets: tables of differences from the config defaults, by budget. jax-free.

`tiny` takes seconds on a CPU and proves that the pipes hold, `small` takes minutes and means something, `paper` is the
paper's scale. A preset may shrink tasks, steps and nets, never horizon, reward, protocol or split. `agent` is for every
algorithm of the stage, `agents` has a row for each that wants something of its own.
"""

from typing import Any

from pipelines.stages.collectors import PAPERS

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

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "collect": {
        "tiny": {"steps": 200, "random_steps": 100, "block_steps": 50, "num_snapshots": 2, "agent": _TINY_SAC},
        # positions and distances of the point families reach 10 to 20; online there is no log yet to fit scales to
        "small": {"agent": {**_SMALL_SAC, "obs_scale": 10.0, "reward_scale": 10.0}},
        "paper": {"papers": PAPERS},  # the row of the family's own paper
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
    "metatrain": {
        "tiny": {**_TINY_LOOP, "agent": _TINY_SAC},
        "small": {**_SMALL_LOOP, "agent": _SMALL_SAC},
        "paper": {"updates": 20_000},
    },
    "distill": {
        "tiny": {
            **_TINY_LOOP,
            "agent": {
                "encoder_hidden": [16],
                "embed_hidden": [16],
                "embed_dim": 16,
                "predictor_hidden": [16],
                "q_hidden": [16, 16],
                "latent_dim": 4,
                "batch_size": 16,
                "num_shots": 10,
            },
        },
        "small": {
            "updates": 12_000,
            "block_updates": 500,
            "agent": {
                "encoder_hidden": [128],
                "embed_hidden": [128],
                "embed_dim": 128,
                "predictor_hidden": [128],
                "q_hidden": [128, 128],
                "batch_size": 128,
                "learning_rate": 1e-3,
            },
        },
        "paper": {"updates": 50_000, "agent": {"batch_size": 128}},
    },
    "eval": {"tiny": {"episodes": 4, "curve_episodes": 2}, "small": {}, "paper": {}},
    "report": {"tiny": {}, "small": {}, "paper": {}},
}
