"""Logs in the layouts of others, made by hand from rows that are known."""

import gzip
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Rows = dict[str, np.ndarray]
LENGTHS = (5, 5, 3)
PLACES = (0.5, 1.25)  # the goals of two tasks


def rows(seed: int = 0, lengths: Sequence[int] = LENGTHS, dims: int = 3, dies: Sequence[int] = ()) -> Rows:
    """Episodes of a walk: float64 numbers that float32 holds exactly. `dies`: episodes that end in a terminal."""
    rng = np.random.default_rng(seed)
    paths = [np.round(rng.normal(size=(length + 1, dims)), 3).astype(np.float32) for length in lengths]
    ends = np.concatenate([np.arange(length) == length - 1 for length in lengths])
    episode = np.repeat(np.arange(len(lengths)), lengths)
    return {
        "obs": np.concatenate([path[:-1] for path in paths]).astype(np.float64),
        "next_obs": np.concatenate([path[1:] for path in paths]).astype(np.float64),
        "action": rng.uniform(-1, 1, (sum(lengths), 2)).astype(np.float32).astype(np.float64),
        "reward": rng.normal(size=(sum(lengths), 1)).astype(np.float32).astype(np.float64),
        "terminal": ends & np.isin(episode, dies),
        "ends": ends,
    }


def borel(root: Path, tasks: Sequence[Rows] | None = None, goals: Sequence[str] = ("0.500", "1.250")) -> Path:
    """`terminals` say at random that the agent is in its goal."""
    for seed, (goal, data) in enumerate(zip(goals, tasks or [rows(0), rows(1)], strict=True)):
        folder = root / f"seed_{73 + seed}_goal_{goal}"
        folder.mkdir(parents=True)
        names = {"obs": "obs", "action": "actions", "reward": "rewards", "next_obs": "next_obs"}
        for name, file in names.items():
            np.save(folder / f"{file}.npy", data[name])
        inside = np.random.default_rng(seed).integers(0, 2, (len(data["reward"]), 1))
        np.save(folder / "terminals.npy", inside.astype(np.uint8))
        (folder / "online_config.json").write_text("{}")
    return root


def npz(root: Path) -> Path:
    root.mkdir(parents=True)
    for number in (0, 1):
        data = rows(number, dies=(1,))
        np.savez(
            root / f"task{number}.npz",
            observations=data["obs"],
            actions=data["action"],
            rewards=data["reward"][:, 0],
            next_observations=data["next_obs"],
            terminals=data["terminal"],
            timeouts=data["ends"] & ~data["terminal"],
        )
    return root


def ogbench(root: Path) -> Path:
    """`terminals` end trajectories, `masks` stop the bootstrap, and there is no next_obs."""
    root.mkdir(parents=True)
    data = rows(0, dies=(1,))
    columns = {"observations": data["obs"], "actions": data["action"], "rewards": data["reward"]}
    np.savez(root / "only.npz", **columns, terminals=data["ends"], masks=1.0 - data["terminal"])
    return root


def d4rl(root: Path) -> Path:
    root.mkdir(parents=True)
    for number in (0, 1):
        data = rows(number, dies=(1,))
        with h5py.File(root / f"task{number}.hdf5", "w") as file:
            file["observations"], file["actions"] = data["obs"].astype(np.float32), data["action"]
            file["rewards"], file["terminals"] = data["reward"][:, 0], data["terminal"]
            file["timeouts"] = data["ends"] & ~data["terminal"]
            file["infos/qpos"] = data["obs"]
    return root


def macaw(root: Path) -> Path:
    """Every trajectory backwards, as its writer has it."""
    root.mkdir(parents=True)
    for number in (0, 1):
        data = rows(number)
        parts = np.split(np.arange(len(data["ends"])), np.flatnonzero(data["ends"])[:-1] + 1)
        order = np.concatenate([part[::-1] for part in parts])
        last = np.concatenate([np.repeat(data["next_obs"][part[-1:]], len(part), 0) for part in parts])
        with h5py.File(root / f"buffer_{number}.h5", "w") as file:
            for name, column in (
                ("obs", "obs"),
                ("actions", "action"),
                ("rewards", "reward"),
                ("next_obs", "next_obs"),
            ):
                file.create_dataset(name, data=data[column][order].astype(np.float32), compression="lzf")
            file["terminals"], file["terminal_obs"] = np.zeros((len(order), 1), bool), last.astype(np.float32)
            file["mc_rewards"], file["discount_factor"] = data["reward"], 0.99
    return root


def focal(root: Path) -> Path:
    """An episode per file: objects. Their order is that of the step, not of the name."""
    for number in (0, 1):
        data = rows(number)
        folder = root / f"goal_idx{number}"
        folder.mkdir(parents=True)
        starts = np.append(0, np.flatnonzero(data["ends"]) + 1)
        for episode, step in enumerate((900, 1000, 10000)):
            part = range(starts[episode], starts[episode + 1])
            table = np.empty((len(part), 4), object)
            for n, row in enumerate(part):
                table[n] = [data["obs"][row], data["action"][row], float(data["reward"][row, 0]), data["next_obs"][row]]
            np.save(folder / f"trj_evalsample0_step{step}.npy", table)
    return root


def mbml(root: Path) -> Path:
    root.mkdir(parents=True)
    for number in (0, 4):
        data = rows(min(number, 1))
        columns = (data["obs"], data["next_obs"], data["action"], data["reward"], data["terminal"][:, None])
        buffer: list[Any] = list(zip(*columns, strict=True))
        (root / f"goal_{number:02d}.zip_pkl").write_bytes(gzip.compress(pickle.dumps(buffer)))
    return root


def minari(root: Path, monkeypatch: Any) -> Path:
    """Two datasets that Minari itself writes."""
    import gymnasium
    import minari as package
    from minari.data_collector import EpisodeBuffer

    root.mkdir(parents=True)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    box = gymnasium.spaces.Box
    for number in (0, 1):
        data = rows(number, dies=(1,))
        buffers = []
        for episode, part in enumerate(np.split(np.arange(13), np.flatnonzero(data["ends"])[:-1] + 1)):
            path = np.concatenate([data["obs"][part], data["next_obs"][part[-1:]]]).astype(np.float32)
            dead = data["terminal"][part]
            cut = data["ends"][part] & ~dead
            rewards = data["reward"][part, 0]
            buffers.append(EpisodeBuffer(episode, None, None, path, data["action"][part], rewards, dead, cut, None))
        package.create_dataset_from_buffers(
            f"lab/walk{number}-v0",
            buffers,
            action_space=box(-1.5, 1.5, (2,), np.float32),
            observation_space=box(-np.inf, np.inf, (3,), np.float32),
        )
    return root


def expected(data: Rows) -> dict[str, Any]:
    """The columns of a log of these rows."""
    ends, count = data["ends"], len(data["ends"])
    episode = np.cumsum(np.append(0, ends[:-1]))
    slots = []
    for n in range(count):
        slots += [data["obs"][n]] + ([data["next_obs"][n]] if ends[n] else [])
    starts = np.flatnonzero(np.append(True, ends[:-1]))
    return {
        "obs": np.stack(slots).astype(np.float32),
        "action": data["action"].astype(np.float32),
        "reward": data["reward"][:, 0].astype(np.float32),
        "terminal": data["terminal"],
        "truncated": ends & ~data["terminal"],
        "outcome": np.zeros((count, 0), np.float32),
        "episode": episode.astype(np.int32),
        "step": (np.arange(count) - starts[episode]).astype(np.int32),
        "size": np.int32(count),
    }


def assert_log(columns: dict[str, Any], data: Rows) -> None:
    """The columns hold exactly these rows."""
    for name, want in expected(data).items():
        np.testing.assert_array_equal(columns[name], want, err_msg=name)
        assert columns[name].dtype == want.dtype, name
