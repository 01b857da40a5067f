"""One folder for temporary files, under medbill's home and open to its owner alone.

Nothing of ours writes protected data there in clear: what is read stays in memory, what is stored is sealed first. The
folder is for what libraries spill without asking, and guard empties it by age (docs/retention.md).
"""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

from medbill.errors import StoreUnavailable

_PIECE = 1 << 20
_SOCKET = len("/pymp-12345678/listener-12345678")


def folder(home: Path) -> Path:
    """The folder, made where it is missing. Raises StoreUnavailable where it is a link, or others may look into it."""
    path = home / "temp"
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        state = path.lstat()
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid():
            raise StoreUnavailable("the folder for temporary files is a link or another account's; remove it")
        if stat.S_IMODE(state.st_mode) != 0o700:
            path.chmod(0o700)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        raise StoreUnavailable(f"the folder for temporary files cannot be made ({name}); check the home") from None
    return path


def environment(home: Path) -> dict[str, str]:
    """Variables that let programs put their temporary files there, those of libraries too.

    Empty where the path is too long for the sockets Python's multiprocessing makes in that folder (107 bytes): then the
    system's folder serves, for which the same holds: nothing of ours is written there.
    """
    path = folder(home)
    return {"TMPDIR": str(path)} if len(os.fsencode(path)) + _SOCKET <= 107 else {}


def empty(path: Path, seconds: float) -> int:
    """Overwrite and remove files unchanged for so many seconds, then empty folders; returns how many files.

    Overwriting reaches the blocks on plain disks; on copy-on-write or flash storage only removal is sure. Links are removed,
    never followed. Raises StoreUnavailable where the folder cannot be read.
    """
    before, done = time.time() - seconds, 0
    try:
        for folder_name, folders, files in os.walk(path, topdown=False):
            for name in files:
                done += _shred(Path(folder_name, name), before)
            for name in folders:
                found = Path(folder_name, name)
                if found.is_symlink():
                    found.unlink()
                elif found.stat().st_mtime < before and not any(found.iterdir()):
                    found.rmdir()
    except FileNotFoundError:
        pass  # somebody else removed it
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        raise StoreUnavailable(f"the folder for temporary files cannot be emptied ({name}); check its rights") from None
    return done


def _shred(file: Path, before: float) -> bool:
    state = file.lstat()
    if state.st_mtime >= before:
        return False
    if stat.S_ISREG(state.st_mode) and state.st_nlink == 1:
        descriptor = os.open(file, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            left = state.st_size
            while left > 0:
                left -= os.write(descriptor, bytes(min(left, _PIECE)))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    file.unlink()
    return True
