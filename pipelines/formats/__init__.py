"""Logs as others write them: readers, writers, and which format a source has. The only importer of h5py.

Everything here is numpy on the host: no jax. A reader gives a Source, whose tasks are loaded one at a time.
"""

from pipelines.formats.detect import detect, read
from pipelines.formats.raw import Raw, Said, Source
from pipelines.formats.write import WRITERS, Exported, check_target, rows, write

__all__ = ["WRITERS", "Exported", "Raw", "Said", "Source", "check_target", "detect", "read", "rows", "write"]
