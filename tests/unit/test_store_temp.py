"""The one folder for temporary files: the owner's alone, emptied by age, nothing followed out of it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from medbill.errors import StoreUnavailable
from medbill.store import temp


def test_the_folder_is_the_owners_alone_and_becomes_so_again(tmp_path: Path) -> None:
    path = temp.folder(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    path.chmod(0o755)
    assert stat.S_IMODE(temp.folder(tmp_path).stat().st_mode) == 0o700


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "temp").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable):
        temp.folder(tmp_path)


def test_programs_put_their_files_there_unless_sockets_would_not_fit() -> None:
    code = "import tempfile; print(tempfile.gettempdir())"
    with tempfile.TemporaryDirectory(prefix="mb-") as home:
        told = temp.environment(Path(home))
        done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **told}, capture_output=True, text=True)
        assert done.stdout.strip() == str(Path(home) / "temp") == told["TMPDIR"]
        assert temp.environment(Path(home) / ("long" * 20)) == {}


def test_old_files_are_overwritten_and_removed_young_ones_stay(tmp_path: Path) -> None:
    path = temp.folder(tmp_path)
    (path / "sub").mkdir()
    old, young = path / "sub" / "old", path / "young"
    old.write_bytes(b"SECRET" * 1000)
    young.write_bytes(b"x")
    reader = old.open("rb")  # still sees the blocks after the name is gone
    for found in (old, path / "sub"):
        os.utime(found, (time.time() - 7200,) * 2)
    assert temp.empty(path, 3600) == 1
    assert not old.exists() and young.exists()
    assert set(reader.read()) == {0}
    reader.close()


def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    path, outside = temp.folder(tmp_path), tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (path / "folder").symlink_to(outside)
    (path / "file").symlink_to(outside / "kept")
    os.link(outside / "kept", path / "hard")
    for name in ("folder", "file"):
        os.utime(path / name, (0, 0), follow_symlinks=False)
    os.utime(path / "hard", (0, 0))
    temp.empty(path, 60)
    assert list(path.iterdir()) == [] and (outside / "kept").read_text() == "kept"


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert temp.empty(tmp_path / "nothing", 1) == 0
