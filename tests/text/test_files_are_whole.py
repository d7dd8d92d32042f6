"""What we write is there as a whole or not at all."""

import resource
from pathlib import Path

import pytest

from notifyctl.text.files import write_new


def test_half_a_file_is_not_left_in_the_way_of_the_next_try(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            write_new(tmp_path / "new", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (caught.value.filename, list(tmp_path.iterdir())) == (str(tmp_path / "new"), [])


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    write_new(tmp_path / "new", b"x", mode=0o600)
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "new", b"y")
    assert ((tmp_path / "new").read_bytes(), (tmp_path / "new").stat().st_mode & 0o777) == (b"x", 0o600)
