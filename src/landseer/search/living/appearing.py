"""How an index folder comes into being: whole, or not at all."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from landseer.search.living.checks import FORMAT, KIND
from landseer.search.living.segments import FOLDER, sync_folder
from landseer.storage import remove_leftovers, writing


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a folder with a manifest of its own to put an index in; on success it becomes *path*.

    It stands hidden beside *path* until then.  What a killed process left of an earlier try goes; a living
    one's stays.  Raises ``ValueError`` where *path* exists or cannot be written.
    """
    if path.exists():
        raise ValueError(f"{path} exists already; remove it or choose another --out")
    try:
        remove_leftovers(path)
        nest, handle = _nest(path)
        try:
            index = nest / "index"
            # the files of the index change, so its manifest lists none: it is written before they are there
            with writing(index, KIND, made_by={"format": FORMAT}, fingerprint=secrets.token_hex(8)):
                pass
            (index / FOLDER).mkdir()
            yield index
            for entry in (*index.rglob("*"), index):
                sync_folder(entry)  # a file's handle is opened and synced alike
            index.rename(path)
            sync_folder(path.parent)
        finally:
            shutil.rmtree(nest, ignore_errors=True)
            os.close(handle)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}); choose another --out") from None


def _nest(path: Path) -> tuple[Path, int]:
    """A folder beside *path*, named and locked as storage does with its own, so ``remove_leftovers`` knows it."""
    while True:
        nest = path.parent / f".{path.name[:40]}.part-{os.getpid()}-{secrets.token_hex(4)}"
        nest.mkdir(parents=True)
        handle = os.open(nest, os.O_RDONLY)
        if _lock(handle) and nest.is_dir():
            return nest, handle
        os.close(handle)  # between mkdir and lock another process took it for a leftover


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a network file system that cannot lock folders: nobody clears them there
    return True
