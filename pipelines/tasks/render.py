"""Bodies drawn in 3D from joint positions, whichever engine moved them: frames by mujoco, a page by brax's viewer."""

import base64
import contextlib
import copy
import functools
import importlib
import importlib.resources
import io
import os
import sys
import warnings
from collections.abc import Iterator
from types import SimpleNamespace

import mujoco
import numpy as np

from pipelines.core.errors import StageFailed

HEIGHT, WIDTH = 360, 480
AWAY = 3.4  # distance of the camera, in radii of the body
FLOOR = (0.36, 0.42, 0.4, 1.0)  # of the page: the models' own glares in its light
PLAIN = mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION  # left out: without a GPU they take longest


@functools.cache
def _ready() -> None:
    """Without a screen mujoco asks GLFW for a window all the same, unless MUJOCO_GL says otherwise: EGL needs none."""
    if sys.platform == "linux" and not any(
        os.environ.get(name) for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")
    ):
        context = importlib.import_module("mujoco.rendering.classic.gl_context")
        context.__dict__["GLContext"] = importlib.import_module("mujoco.egl").GLContext


def _no_gl(error: Exception) -> StageFailed:
    said = (" ".join(str(error).split()) or type(error).__name__)[:200]
    return StageFailed(
        f"there is no OpenGL to draw with: {said}",
        "install EGL (Debian: apt install libegl1 libgl1-mesa-dri), or MUJOCO_GL=osmesa; --html needs none",
    )


def frames(model: mujoco.MjModel, qpos: np.ndarray) -> Iterator[np.ndarray]:
    """`[HEIGHT, WIDTH, 3]` uint8 of each of `qpos [N, nq]`, seen by a camera that follows the body. Raises StageFailed
    where there is no OpenGL."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos[0]
    mujoco.mj_forward(model, data)
    camera = _camera(model, data)
    try:
        _ready()
        renderer = mujoco.Renderer(model, HEIGHT, WIDTH)
    except Exception as error:  # whatever the driver, its loader or mujoco raise
        raise _no_gl(error) from error
    with contextlib.closing(renderer):
        for position in qpos:
            data.qpos[:] = position
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera)
            renderer.scene.flags[[int(flag) for flag in PLAIN]] = 0
            yield renderer.render().copy()


def _camera(model: mujoco.MjModel, data: mujoco.MjData) -> mujoco.MjvCamera:
    """Follows the first body at a distance that shows all of it; what moves in a plane is seen from the side."""
    moving = [i for i in range(model.ngeom) if model.geom_bodyid[i] > 0]
    around = data.geom_xpos[moving] - data.subtree_com[1]
    radius = float((np.linalg.norm(around, axis=1) + model.geom_rbound[moving]).max())
    planar = model.jnt_type[0] != mujoco.mjtJoint.mjJNT_FREE
    camera = mujoco.MjvCamera()
    camera.type, camera.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, 1
    camera.distance, camera.azimuth, camera.elevation = (
        AWAY * radius,
        90.0 if planar else 120.0,
        -12.0 if planar else -28.0,
    )
    return camera


def page(model: mujoco.MjModel, qpos: np.ndarray, substeps: int) -> str:
    """An HTML page that plays `qpos [N, nq]`, one a control step, and can be turned and zoomed with the mouse. brax's
    viewer is in it; three.js, which the viewer draws with, comes from the network. Raises StageFailed for a model that
    brax cannot read."""
    with contextlib.redirect_stdout(io.StringIO()):  # brax talks while it is imported
        html, mjcf = importlib.import_module("brax.io.html"), importlib.import_module("brax.io.mjcf")
    shown = copy.copy(model)
    # only the shapes matter: what brax's engines could not simulate may stand on the page
    shown.opt.solver, shown.opt.integrator = mujoco.mjtSolver.mjSOL_NEWTON, mujoco.mjtIntegrator.mjINT_EULER
    shown.opt.cone, shown.opt.timestep = mujoco.mjtCone.mjCONE_PYRAMIDAL, model.opt.timestep * substeps
    shown.geom_rgba[shown.geom_type == mujoco.mjtGeom.mjGEOM_PLANE] = FLOOR
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # brax says that its engines are no longer maintained
            system = mjcf.load_model(shown)
    except Exception as error:
        raise StageFailed(f"brax cannot show this body: {' '.join(str(error).split())[:200]}", "--video can") from error
    data, states = mujoco.MjData(model), []
    for position in qpos:
        data.qpos[:] = position
        mujoco.mj_kinematics(model, data)
        pose = SimpleNamespace(pos=np.round(data.xpos[1:], 4), rot=np.round(data.xquat[1:], 4))
        states.append(SimpleNamespace(x=pose))
    return str(html.render(system, states, height="100vh", colab=False, base_url=_viewer()))


def _viewer() -> str:
    """The installed brax's viewer as one `data:` address, the modules that it imports inside it: the page shall not
    depend on whether a branch of a repository is still there."""
    folder = importlib.resources.files("brax") / "visualizer" / "js"
    source = (folder / "viewer.js").read_text()
    for name in ("animator", "selector", "system"):
        source = source.replace(f"./{name}.js", _address((folder / f"{name}.js").read_text()))
    return _address(source)


def _address(script: str) -> str:
    return "data:text/javascript;base64," + base64.b64encode(script.encode()).decode()
