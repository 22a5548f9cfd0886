"""Rollouts to look at: a picture from above, a film, a page in 3D. Which of them there can be depends on the family."""

from typing import Any

import numpy as np

from pipelines.core.errors import UsageError
from pipelines.core.types import Array, Task, TaskFamily
from pipelines.figures import film, scenes
from pipelines.rollouts.episodes import places
from pipelines.stages.rollout import Watched

MOST_PANELS = scenes.MOST_PANELS
FILM_S = 6.0  # how long a film from above takes, within these limits of a frame
FRAME_S = (0.04, 0.25)
DRAWN_S = 0.05  # of a frame that an engine, or the observation, draws
IMAGE_SIDE = 256  # to which an observed image is enlarged


def from_above(family: TaskFamily, tasks: tuple[Task, ...], paths: Any) -> bytes:
    """A PNG of `paths` [T, P, H + 1, K]. Raises UsageError for a family that has no place in a plane."""
    _plane(family, paths.shape[-1])
    panels = [
        scenes.Panel(task.name, scenes.around(path, family.scene(task) if family.scene else None), path)
        for task, path in zip(tasks, paths, strict=True)
    ]
    return scenes.above(panels)


def _plane(family: TaskFamily, num_axes: int) -> None:
    if num_axes != 2:
        hint = "--video or --html show it in 3D" if family.solid else "it needs `position`, and may have `scene`"
        raise UsageError(f"{family.name} does not say where an agent is from above", hint)


def check_video(family: TaskFamily, suffix: str) -> None:
    """Raises UsageError where no film of the family, or none in that format, can be made: before anything is played."""
    if suffix == ".mp4":
        film.ffmpeg()
    if family.solid is None and not _is_image(family) and not hasattr(family, "simulate"):
        sample = np.zeros((1, *family.space.obs_shape), family.space.obs_dtype)
        _plane(family, places(family)(sample).shape[-1])


def check_page(family: TaskFamily) -> None:
    """Raises UsageError where there is nothing to show in 3D."""
    if family.solid is None:
        raise UsageError(f"{family.name} has no body to show in 3D", "--picture or --video show it from above")


def _is_image(family: TaskFamily) -> bool:
    return family.space.obs_dtype == "uint8" and len(family.space.obs_shape) == 3


def video(family: TaskFamily, watched: Watched, suffix: str) -> bytes:
    """A GIF or an MP4: in 3D where there is a body, else as the engine or the observation draws it, else from above."""
    steps = len(watched.rewards)
    kept, every = film.thinned(steps + 1) if suffix == ".gif" else (list(range(steps + 1)), 1)
    total = np.concatenate([[0.0], np.cumsum(watched.rewards)])
    captions = {t: f"{watched.task.name}  step {t}  return {total[t]:.4g}" for t in kept}
    if family.solid is not None:
        from pipelines.tasks import render

        model = family.solid.model(watched.task.row(np.float64))
        frames = list(render.frames(model, np.asarray(family.solid.qpos(watched.states))[kept]))
        frame_s = float(model.opt.timestep) * family.solid.substeps * every
    elif watched.frames:
        frames, frame_s = [watched.frames[t] for t in kept], DRAWN_S * every
    elif _is_image(family):
        frames, frame_s = [_enlarged(watched.obs[t]) for t in kept], 2 * DRAWN_S * every
    else:
        path = np.asarray(places(family)(watched.obs))
        _plane(family, path.shape[-1])
        scene = scenes.around(path, family.scene(watched.task) if family.scene else None)
        frames = list(scenes.film(scene, path, captions))
        return _encoded(frames, float(np.clip(FILM_S / len(kept), *FRAME_S)), suffix)
    texts = captions.values()
    return _encoded([film.labelled(frame, text) for frame, text in zip(frames, texts, strict=True)], frame_s, suffix)


def _encoded(frames: list[Any], frame_s: float, suffix: str) -> bytes:
    return (film.mp4 if suffix == ".mp4" else film.gif)(frames, frame_s)


def _enlarged(obs: Array | np.ndarray) -> np.ndarray:
    """`[H, W, C]`, a stack of grey frames, the newest last -> the newest as RGB."""
    image = np.asarray(obs)[..., -1]
    times = max(1, IMAGE_SIDE // image.shape[0])
    return np.repeat(np.repeat(np.repeat(image[..., None], 3, -1), times, 0), times, 1)


def page(family: TaskFamily, watched: Watched) -> str:
    """An HTML page in 3D. Raises UsageError for a family without a body."""
    check_page(family)
    assert family.solid is not None
    from pipelines.tasks import render

    model = family.solid.model(watched.task.row(np.float64))
    return render.page(model, np.asarray(family.solid.qpos(watched.states)), family.solid.substeps)
