import errno
import os
import shutil

import pytest

from pipelines.core.errors import StageFailed
from pipelines.store.disk import discard, file_sha256, files_under, is_full, room_for, size_of, sync_tree, write_whole


def test_files_under_and_their_sizes(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"12345")
    (tmp_path / "a").write_bytes(b"")
    assert list(files_under(tmp_path)) == ["a", "b/c"]
    assert size_of(tmp_path) == 5
    assert files_under(tmp_path / "nowhere") == {}
    sync_tree(tmp_path)
    assert file_sha256(tmp_path / "a") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_write_whole_replaces_and_leaves_nothing_behind(tmp_path):
    write_whole(tmp_path / "x", b"old")
    write_whole(tmp_path / "x", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x": b"new"}


def test_discard_takes_a_folder_away(tmp_path):
    (tmp_path / "x" / "y").mkdir(parents=True)
    discard(tmp_path / "x", tmp_path / "tmp")
    discard(tmp_path / "x", tmp_path / "tmp")
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    assert not list((tmp_path / "tmp").iterdir())


def test_no_room_is_said_before_anything_is_written(tmp_path):
    needed = shutil.disk_usage(tmp_path).total + 1
    numbers = f"needs {needed} bytes, [0-9]+ free at {tmp_path}"
    with pytest.raises(StageFailed, match=numbers) as failure, room_for(needed, tmp_path, "the log"):
        pytest.fail("written nonetheless")
    assert "--resume" in failure.value.hint
    assert failure.value.exit_code == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_writer_that_finds_the_disk_full(tmp_path, number):
    with pytest.raises(StageFailed, match="needs 7 bytes"), room_for(7, tmp_path, "the log"):
        raise OSError(number, os.strerror(number))
    with pytest.raises(StageFailed, match="needs 7 bytes"), room_for(7, tmp_path, "the log"):
        raise ValueError(f"RESOURCE_EXHAUSTED: Failed to write [os_error_code='{number}']")
    with pytest.raises(StageFailed, match="needs 7 bytes"), room_for(7, tmp_path, "the log"):
        raise RuntimeError("wrapped") from OSError(number, os.strerror(number))


def test_other_errors_pass_through(tmp_path):
    for error in (OSError(errno.EACCES, "no"), ValueError("os_error_code='13'"), StageFailed("NaN")):
        with pytest.raises(type(error)) as caught, room_for(7, tmp_path, "the log"):
            raise error
        assert caught.value is error
    assert not is_full(None)
