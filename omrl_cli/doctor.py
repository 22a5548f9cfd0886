"""`omrl doctor`: versions, devices, store and disk; combinations that are known to be bad."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from omrl_cli import __version__, console
from omrl_cli.files import existing
from omrl_cli.options import Common
from pipelines.core.errors import CheckFailed

PYTHONS = (3, 11), (3, 14)  # from, below
ORBAX_LEAST = (0, 12, 3)  # the first with whole-or-absent saves as the store needs them
DISK_LEAST = 200e6  # bytes; the small preset's artifacts of one seed take a few tens of megabytes
# What `omrl doctor` lists; a package that is absent shows as such.
PACKAGES = (
    *(
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "orbax-checkpoint",
        "numpy",
        "scipy",
        "mujoco",
        "mujoco-mjx",
        "brax",
        "gymnasium",
    ),
    *("typer", "pydantic", "rich", "PyYAML", "tensorboardX", "matplotlib", "jinja2"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's sheet. `bad` says what is wrong and `cure` what to do; both empty where all is well."""

    what: str
    value: str
    bad: str = ""
    cure: str = ""


def run(common: Common) -> None:
    """Prints the sheet. Raises CheckFailed if a finding is bad."""
    versions = installed(PACKAGES)
    found = [*program(), *packages(versions), *devices(), *places(common.store)]
    bad = [one for one in found if one.bad]
    if common.as_json:
        console.out_json({"ok": not bad, "findings": [vars(one) for one in found]})
    else:
        console.out(console.table(("what", "found", ""), [(one.what, one.value, one.bad or "ok") for one in found]))
    if bad:
        raise CheckFailed("; ".join(f"{one.what}: {one.bad}" for one in bad), "; ".join(one.cure for one in bad))


def installed(names: tuple[str, ...]) -> dict[str, str]:
    """name -> version of those that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def release(version: str) -> tuple[int, ...]:
    """ "0.12.8rc1" -> (0, 12, 8)"""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def program() -> Iterator[Finding]:
    """omrl, and which checkout or installation of it runs, Python, the machine."""
    yield Finding("omrl", __version__)
    yield Finding("code", str(Path(__file__).parents[1]))
    in_range = PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]
    yield Finding(
        "python", platform.python_version(), "" if in_range else "not in 3.11 to 3.13", "make a new environment"
    )
    yield Finding("system", f"{platform.system()} {platform.machine()}")


def packages(versions: Mapping[str, str]) -> Iterator[Finding]:
    """What is installed, judged by what is known of it."""
    for name in PACKAGES:
        if name not in versions:
            yield Finding(name, "absent", "omrl needs it", f"pip install {name}")
            continue
        bad, cure = judge(name, versions)
        yield Finding(name, versions[name], bad, cure)


def judge(name: str, versions: Mapping[str, str]) -> tuple[str, str]:
    """(what is wrong, what to do) of a package among the others; empty where nothing is known against it."""
    here = release(versions[name])
    if name == "mujoco" and here == (4, 0, 0):
        return "4.0.0 has a solver bug", "pip install 'mujoco!=4.0.0,<4'"
    if name == "orbax-checkpoint" and here < ORBAX_LEAST:
        return "older than 0.12.3", "pip install 'orbax-checkpoint>=0.12.3,<1'"
    twin = {"mujoco-mjx": "mujoco", "jaxlib": "jax"}.get(name)
    if twin is not None and twin in versions and here[:2] != release(versions[twin])[:2]:
        return f"does not match {twin} {versions[twin]}", f"pip install '{name}=={versions[twin]}'"
    return "", ""


def devices() -> Iterator[Finding]:
    """What jax can compute on, and where compiled programs are kept."""
    from pipelines.core import platform as setup

    try:
        setup.prepare()
        here = setup.describe()
    except (RuntimeError, ImportError) as error:
        yield Finding(
            "devices", "none", " ".join(str(error).split()), "see https://docs.jax.dev/en/latest/installation.html"
        )
        return
    yield Finding("devices", f"{here['devices']} x {here['device']} ({here['kind']}), {here['cores']} cores")
    cache = setup.cache_dir()
    # Without a cache every compile is cold, which is slow but not wrong.
    yield Finding(
        "compilation cache", f"{cache}" + ("" if writable(cache) else " (not writable: every compile is cold)")
    )


def places(store: Path) -> Iterator[Finding]:
    """The store and its disk."""
    root = store.absolute()
    bad = "" if writable(root) else "cannot be written"
    yield Finding("store", str(root), bad, "choose another with --store or OMRL_STORE")
    free = shutil.disk_usage(existing(root)).free
    bad = "" if free >= DISK_LEAST else f"less than {console.size(DISK_LEAST)}"
    yield Finding("free disk", console.size(free), bad, "`omrl gc`, or choose another --store")


def writable(path: Path) -> bool:
    """Whether `path`, which need not exist, could be written below."""
    folder = existing(path)
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
