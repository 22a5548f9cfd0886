"""numpy's files, and pickles where they are permitted. A pickle is a program: even with permission nothing but numpy
arrays and plain containers is let in."""

import gzip
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from pipelines.core.errors import CheckFailed, UsageError

DAMAGED = "copy it again from where it came"
PERMISSION = "--allow-pickle reads it, if you trust where it comes from"
MAGIC = b"\x93NUMPY"

# What a pickle of arrays names, under numpy 1 and 2.
_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
_NUMPY = {"ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer"}
_PLAIN = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    *(("builtins", name) for name in ("list", "tuple", "dict", "set", "bytearray", "complex", "slice")),
}


class _Arrays(pickle.Unpickler):
    """Builds arrays and plain containers, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        plain = (module, name) in _PLAIN
        arrays = (module in _MODULES and name in _NUMPY) or (module == "numpy.dtypes" and name.endswith("DType"))
        if not plain and not arrays:
            raise _StrangerError(f"{module}.{name}")
        return super().find_class(module, name)


class _StrangerError(Exception):
    """A pickle wants something that is no array."""


def unpickle(file: BinaryIO, where: str, allowed: bool) -> Any:
    """Raises UsageError without permission, CheckFailed for what is damaged or wants more than arrays."""
    if not allowed:
        raise UsageError(f"{where} is a pickle, which can run any program", PERMISSION)
    try:
        return _Arrays(file, encoding="latin1").load()
    except _StrangerError as error:
        raise CheckFailed(f"{where} wants {error}, which is no array", "write arrays, lists and tuples only") from error
    except Exception as error:  # a damaged pickle may fail in any way
        raise CheckFailed(f"{where} is cut short or damaged: {_line(error)}", DAMAGED) from error


def load_gzip_pickle(path: Path, allowed: bool) -> Any:
    """A gzip-compressed pickle."""
    if not allowed:
        raise UsageError(f"{path} is a pickle, which can run any program", PERMISSION)
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise CheckFailed(f"{path} is cut short or damaged: {_line(error)}", DAMAGED) from error
    return unpickle(io.BytesIO(content), str(path), allowed)


def load_npy(path: Path, allow_pickle: bool = False) -> np.ndarray:
    """One array, mapped from the disk where that is possible. Raises CheckFailed if the file is damaged, UsageError for
    objects without permission."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise CheckFailed(f"{path} is no .npy file", DAMAGED)
        file.seek(0)
        dtype = _header(file, str(path))[2]
        if dtype.hasobject:
            return np.asarray(_objects(file, str(path), allow_pickle))
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise CheckFailed(f"{path} is cut short or damaged: {_line(error)}", DAMAGED) from error
    return array


def load_npz(path: Path, allow_pickle: bool = False) -> dict[str, np.ndarray]:
    """Every array of an .npz. Raises as `load_npy`, and CheckFailed for a member that would lie elsewhere."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.startswith("/") or "\\" in member or ".." in member.split("/"):
                    raise CheckFailed(
                        f"{path}: member {member!r} leads out of the archive", "it is not numpy's; do not trust it"
                    )
            found = {}
            for member in archive.namelist():
                if member.endswith(".npy"):
                    content = io.BytesIO(archive.read(member))  # checks the CRC
                    found[member.removesuffix(".npy")] = _member(content, f"{path}: {member}", allow_pickle)
            return found
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise CheckFailed(f"{path} is cut short or damaged: {_line(error)}", DAMAGED) from error


def _member(file: io.BytesIO, where: str, allow_pickle: bool) -> np.ndarray:
    if _header(file, where)[2].hasobject:
        return np.asarray(_objects(file, where, allow_pickle))
    try:
        return npy.read_array(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CheckFailed(f"{where} is cut short or damaged: {_line(error)}", DAMAGED) from error


def _header(file: BinaryIO, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, Fortran order, dtype); the file is put back to its beginning."""
    readers: dict[tuple[int, int], Callable[..., Any]] = {
        (1, 0): npy.read_array_header_1_0,
        (2, 0): npy.read_array_header_2_0,
    }
    try:
        version = npy.read_magic(file)
        if version == (3, 0):  # as 2.0, in UTF-8: field names only, which no column has
            raise ValueError("it has named fields")
        header: tuple[tuple[int, ...], bool, np.dtype] = readers[version](file)
    except (ValueError, KeyError, EOFError, SyntaxError) as error:
        raise CheckFailed(f"{where} is cut short or damaged: {_line(error)}", DAMAGED) from error
    file.seek(0)
    return header


def _objects(file: BinaryIO, where: str, allow_pickle: bool) -> np.ndarray:
    """The pickle behind the header of an object array."""
    if not allow_pickle:
        raise UsageError(f"{where} holds Python objects, a pickle, which can run any program", PERMISSION)
    shape, fortran, _ = _header(file, where)
    npy.read_magic(file)
    npy.read_array_header_1_0(file)
    found = np.asarray(unpickle(file, where, allow_pickle), object)
    return found.reshape(shape, order="F" if fortran else "C") if found.size == np.prod(shape) else found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
