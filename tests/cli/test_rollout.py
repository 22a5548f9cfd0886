"""`omrl rollout`: the numbers are the family's, the pictures show what was played, nothing is overwritten."""

import base64
import importlib.util
import json
import re
import shutil
import stat
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.core.errors import StageFailed
from pipelines.figures import film
from pipelines.stages import pictures, rollout
from pipelines.tasks import point, registry, render

POINT = "point-semicircle/time"
PENDULUM = """
from pipelines.tasks import gymnasium_engine
def hanging():
    return gymnasium_engine.family("Pendulum-v1", attribute="g", values={"train": [8.0], "test": [6.0]}, horizon=12)
"""


def told(omrl, *arguments: object) -> dict:
    said = omrl("rollout", "--json", *arguments)
    assert said.code == 0, said.err
    return json.loads(said.out)


def frames(path: Path) -> list[np.ndarray]:
    found = []
    with Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            found.append(np.asarray(image.convert("RGB")).astype(int))
    return found


def test_the_oracle_reaches_the_oracles_return(omrl) -> None:
    found = told(omrl, "--family", POINT, "--actor", "oracle", "--episodes", 2)
    expected = [point.references(task)["oracle"] for task in point.TIME.tasks("test")]
    np.testing.assert_allclose([row["return"] for row in found["tasks"]], expected, rtol=1e-5)
    assert [row["task"] for row in found["tasks"]] == ["0deg", "90deg", "180deg"]
    assert [row["lengths"] for row in found["tasks"]] == [[20, 20]] * 3
    assert found["standard_error"] == 0


def test_random_is_the_reference_within_its_error(omrl) -> None:
    found = told(omrl, "--family", POINT, "--episodes", 200)
    assert found["actor"] == "random"
    for row, task in zip(found["tasks"], point.TIME.tasks("test"), strict=True):
        assert abs(row["return"] - point.references(task)["random"]) < 4 * row["standard_error"] + 0.6
    assert told(omrl, "--family", POINT, "--episodes", 200) == found
    assert told(omrl, "--family", POINT, "--episodes", 200, "--seed", 1)["return"] != found["return"]


def test_the_table_and_a_chosen_task(omrl) -> None:
    said = omrl("rollout", "--family", POINT, "--actor", "zero", "--task", "90deg", "--episodes", 1)
    assert said.out.split() == ["task", "return", "±", "s.e.", "steps", "90deg", "-200", "-", "20"]
    assert said.err == ""
    lines = omrl("rollout", "--family", POINT, "--actor", "zero").out.splitlines()
    assert lines[-1].split() == ["all", "tasks", "-200", "0", "20"]


def test_a_bare_name_is_played_as_its_paper_evaluates_it(omrl) -> None:
    assert told(omrl, "--family", "gridworld/borel", "--episodes", 1)["family"] == "gridworld/borel,start=fixed"
    assert told(omrl, "--family", "gridworld/borel,start=uniform", "--episodes", 1)["family"] == "gridworld/borel"


@pytest.mark.parametrize(
    ("arguments", "code", "cause", "hint"),
    [
        ([], 2, "rollout needs --family, or --policy", "`omrl families`"),
        (["--family", POINT, "--policy", "x", "--actor", "zero"], 2, "--policy and --actor together", ""),
        (["--family", "point-semicircle/tiem"], 2, "unknown family", "did you mean point-semicircle/time?"),
        (["--family", POINT, "--actor", "orcale"], 2, f"{POINT} has no actor 'orcale'", "it has random, zero, oracle"),
        (
            ["--family", "halfcheetah-vel/mql", "--actor", "oracle"],
            2,
            "halfcheetah-vel/mql has no actor 'oracle'",
            "it has random, zero",
        ),
        (["--family", POINT, "--split", "ood"], 2, f"{POINT} has no ood tasks", "--split train or --split test"),
        (["--family", POINT, "--split", "tset"], 2, "unknown split 'tset'", "did you mean test?"),
        (["--family", POINT, "--match", "near"], 2, "unknown match 'near'", "did you mean nearest?"),
        (["--family", POINT, "--task", "91deg"], 2, f"{POINT} has no test task '91deg'", "did you mean 90deg?"),
        (["--family", POINT, "--html", "a.html"], 2, f"{POINT} has no body to show in 3D", "--picture or --video"),
        (["--family", POINT, "--video", "a.avi"], 2, "--video a.avi", "must end in .gif or .mp4"),
        (["--family", POINT, "--picture", "no/a.png"], 2, "there is no folder no", "mkdir -p no"),
        (["--family", "halfcheetah-vel/mql", "--episodes", "1", "--task", "2.05", "--picture", "a.png"], 2, "", ""),
        (["--policy", "nothing"], 3, "--policy:", ""),
    ],
)
def test_what_is_refused(omrl, tmp_path, monkeypatch, arguments, code: int, cause: str, hint: str) -> None:
    monkeypatch.chdir(tmp_path)
    said = omrl("rollout", *arguments)
    assert (said.code, said.out) == (code, "")
    first, second = said.err.splitlines()[-2:]
    assert first.startswith(f"error: {cause}")
    assert hint in second
    assert list(tmp_path.iterdir()) == []


# ---- policies --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stored_policies(omrl, tmp_path: Path) -> None:
    log = omrl("collect", "--preset", "tiny", "--family", POINT).out.strip()
    each = omrl("train", "--preset", "tiny", "--log", log).out.strip()
    one = omrl("metatrain", "--preset", "tiny", "--log", log).out.strip()
    for policy in (each, one):
        found = told(omrl, "--policy", policy, "--episodes", 2, "--split", "train")
        assert (found["family"], len(found["tasks"])) == (POINT, 3)
        assert all(np.isfinite(row["return"]) for row in found["tasks"])
    # pooled, the same actions whatever the task; per task, another policy each
    assert len({row["return"] for row in told(omrl, "--policy", each, "--episodes", 1)["tasks"]}) == 3

    unseen = omrl("rollout", "--policy", each, "--family", "point-semicircle/spread")
    assert unseen.code == 2
    assert "has no policy for task 6.42857deg" in unseen.err
    assert "--match nearest" in unseen.err
    near = told(omrl, "--policy", each, "--family", "point-semicircle/spread", "--match", "nearest", "--episodes", 1)
    assert len(near["tasks"]) == 14

    stranger = omrl("rollout", "--policy", each, "--family", "umaze-goal/mbml-m")
    assert stranger.code == 4
    assert "with obs_shape (2,), umaze-goal/mbml-m has (4,)" in stranger.err
    report = omrl("eval", "--preset", "tiny", "--policy", one).out.strip()
    assert omrl("rollout", "--policy", report).code == 4


def test_what_is_watched_was_played() -> None:
    """The watched episode is the first of those that the numbers are of, on both kinds of engine."""
    for name in (POINT, "halfcheetah-vel/mql", "hopper-vel/time"):
        family = registry.find(name)
        tasks = family.tasks("test")[:2]
        actor = rollout.scripted("random", family, tasks)
        played = rollout.play(family, tasks, actor, 3, seed=5)
        seen = rollout.watch(family, tasks, 1, actor, 3, seed=5, draw=False)
        length = int(played.length[1, 0])
        assert len(seen.rewards) == length
        assert len(seen.obs) == length + 1
        np.testing.assert_allclose(seen.rewards, played.rewards[1, 0, :length], rtol=1e-4, atol=1e-4)
        assert (length < family.horizon) == family.terminates  # a hopper falls, the others cannot
        assert not np.allclose(seen.rewards.sum(), played.returns[0, 0], rtol=1e-4)  # the control: the other task


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_a_film_from_above_shows_the_agent_on_its_way(omrl, tmp_path: Path) -> None:
    out = tmp_path / "oracle.gif"
    found = told(omrl, "--family", POINT, "--actor", "oracle", "--task", "0deg", "--video", out)
    assert found["files"] == {"video": str(out)}
    seen = frames(out)
    assert len(seen) == point.HORIZON + 1
    orange = [np.argwhere((frame[..., 0] > 180) & (frame[..., 2] < 60)) for frame in seen]
    across = [spots[:, 1].mean() for spots in orange]  # the agent's dot, in pixels
    assert np.all(np.diff(across[:10]) > 5)  # to the right, where the goal is
    assert np.ptp(across[11:]) < 2
    assert np.ptp([spots[:, 0].mean() for spots in orange]) < 2


def test_a_picture_from_above(omrl, tmp_path: Path) -> None:
    first, second = tmp_path / "oracle.png", tmp_path / "random.png"
    told(omrl, "--family", POINT, "--actor", "oracle", "--picture", first)
    told(omrl, "--family", POINT, "--actor", "random", "--picture", second)
    with Image.open(first) as image:
        assert image.size[0] > 1000
    assert first.read_bytes() != second.read_bytes()
    said = omrl("rollout", "--family", "point-semicircle/spread", "--episodes", 1, "--picture", tmp_path / "many.png")
    assert "the picture shows 12 of 14 tasks" in said.err


def test_files_are_not_overwritten(omrl, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    out.write_bytes(b"mine")
    said = omrl("rollout", "--family", POINT, "--picture", out)
    assert (said.code, out.read_bytes()) == (2, b"mine")
    assert said.err == f"error: {out} exists\nhint: --force overwrites it\n"
    assert omrl("rollout", "--family", POINT, "--picture", out, "--force").code == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [out]


def page_states(path: Path) -> dict:
    packed = re.search(r'var system = "([^"]+)"', path.read_text())
    assert packed is not None
    return json.loads(zlib.decompress(base64.b64decode(packed.group(1))))


def test_a_body_as_a_page(omrl, tmp_path: Path) -> None:
    """Of the C engine's joint positions: every link at every step, moving, and the shapes of the MJCF."""
    out = tmp_path / "ant.html"
    told(omrl, "--family", "ant-fwd-back/mql", "--task", "forward", "--episodes", 1, "--html", out)
    system = page_states(out)
    poses = system["states"]["x"]
    assert len(poses) == 201
    assert np.shape(poses[0]["pos"]) == (13, 3)
    assert np.abs(np.subtract(poses[0]["pos"], poses[60]["pos"])).max() > 0.05
    shapes = [geom["name"] for geoms in system["geoms"].values() for geom in geoms]
    assert (shapes.count("Capsule"), shapes.count("Sphere"), shapes.count("Plane")) == (12, 1, 1)
    assert system["opt"]["timestep"] == pytest.approx(0.05)
    text = out.read_text()
    assert '"viewer": "data:text/javascript;base64,' in text  # of the installed brax; the rest are pinned packages
    assert "google/brax" not in text


def test_a_body_as_a_film(tmp_path: Path) -> None:
    family = registry.find("halfcheetah-vel/mql")
    model = family.solid.model(family.tasks("test")[0].row())
    qpos = np.zeros((3, model.nq))
    qpos[1, 2] = 0.8  # the torso leans
    qpos[2] = qpos[0]
    qpos[2, 0] = 7.0  # the camera follows
    try:
        seen = [frame.astype(int) for frame in render.frames(model, qpos)]
    except StageFailed as error:
        pytest.skip(error.cause)
    assert seen[0].shape == (render.HEIGHT, render.WIDTH, 3)
    assert seen[0].std() > 20
    body = [(frame[..., 0] - frame[..., 2] > 40) for frame in seen]  # its skin is the only warm colour
    assert body[0].mean() > 0.01
    assert (body[0] != body[1]).mean() > 0.01
    assert (body[0] != body[2]).mean() < 0.002


def test_without_opengl_it_says_what_to_install(omrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ImportError("libEGL.so.1: cannot open shared object file")

    monkeypatch.setattr(render, "_ready", fail)
    family = "halfcheetah-vel/mql"
    said = omrl("rollout", "--family", family, "--episodes", 1, "--video", tmp_path / "a.gif")
    assert (said.code, said.out) == (1, "")
    assert "error: there is no OpenGL to draw with: libEGL.so.1" in said.err
    assert "libegl1" in said.err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_gymnasium_environment_draws_itself(omrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gymnasium.envs.classic_control.pendulum import PendulumEnv

    def drawn(env: PendulumEnv) -> np.ndarray:
        frame = np.zeros((60, 80, 3), np.uint8)
        frame[30:, : round(40 * (1 + np.cos(env.state[0])))] = 255
        return frame

    (tmp_path / "own.py").write_text(PENDULUM)
    monkeypatch.chdir(tmp_path)
    if importlib.util.find_spec("pygame") is None:
        said = omrl("rollout", "--family", "own.py:hanging", "--video", "a.gif")
        assert said.code == 2
        assert "cannot be drawn: pygame is not installed" in said.err
    monkeypatch.setattr(PendulumEnv, "render", drawn)
    assert omrl("rollout", "--family", "own.py:hanging", "--video", "a.gif").code == 0
    seen = frames(tmp_path / "a.gif")
    assert len(seen) == 13
    assert (seen[0] != seen[6]).any()


def test_an_image_family_shows_what_it_sees() -> None:
    obs = np.zeros((64, 64, 3), np.uint8)
    obs[:32, :, 2] = 200
    shown = pictures._enlarged(obs)
    assert shown.shape == (256, 256, 3)
    assert (shown[:128] == 200).all()
    assert not shown[128:].any()


# ---- files of films --------------------------------------------------------------------------------------------------


def test_an_mp4_needs_ffmpeg(omrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = omrl("rollout", "--family", POINT, "--video", tmp_path / "a.mp4")
    assert (said.code, said.out) == (2, "")
    assert "error: an MP4 needs ffmpeg, and there is none\nhint: pip install imageio-ffmpeg" in said.err


def test_ffmpeg_gets_every_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nraw = sys.stdin.buffer.read()\n"
        "size = sys.argv[sys.argv.index('-s') + 1]\nopen(sys.argv[-1], 'w').write(f'{size} {len(raw)}')\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    assert film.mp4([np.zeros((31, 40, 3), np.uint8)] * 5, 0.05) == f"40x30 {5 * 40 * 30 * 3}".encode()
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.stdin.buffer.read()\nsys.exit('no encoder')\n")
    with pytest.raises(StageFailed, match="ffmpeg failed: no encoder"):
        film.mp4([np.zeros((30, 40, 3), np.uint8)], 0.05)


def test_long_films_are_thinned_and_keep_time() -> None:
    kept, every = film.thinned(1001)
    assert (every, kept[0], kept[1], kept[-1]) == (3, 0, 3, 1000)
    assert len(kept) <= film.MOST_FRAMES
    assert film.thinned(21) == (list(range(21)), 1)
