"""The directory of a disk cache, seen by another process that keeps to its rules
(loracle/storage/disk_cache.hpp): the lock stops what moves, a shared flock keeps an entry."""

import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path

from versioned_bucket import CONFIG, WEIGHTS, digest

RECORD = ".loracle"


@contextmanager
def flocked(path, kind):
    """None if it is not there, or another one has it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(fd, kind)
        except BlockingIOError:
            yield None
            return
        yield fd
    finally:
        os.close(fd)


def read_entry(folder):
    """SHA-256s of the URI and of config and weights; None of an entry that is going."""
    with flocked(folder, fcntl.LOCK_SH | fcntl.LOCK_NB) as fd:
        if fd is None:
            return None
        try:
            record = (folder / RECORD).read_text()
            pair = tuple(digest((folder / file).read_bytes()) for file in (CONFIG, WEIGHTS))
        except FileNotFoundError:
            return None
        return json.loads(record.split("\n", 1)[1])["metadata"]["uri_sha256"], pair


def holds(root, uri, pair):
    """Whether a cache has this content of the adapter."""
    return any(read_entry(folder) == (digest(uri.encode()), pair)
               for folder in (Path(root) / "entries").iterdir())


class CacheWatch:
    def __init__(self, root, bytes_max, bucket):
        self.root, self.bytes_max, self.bucket = Path(root), bytes_max, bucket
        self.most = 0
        self.compared = 0
        self._seen = set()

    def bytes(self):
        """Of all files; and as the directories' names promise. Nothing is made or moved meanwhile."""
        with flocked(self.root / "lock", fcntl.LOCK_EX) as lock:
            if lock is None:
                return 0, 0
            promised = sum(int(path.name.split(".")[-2]) for folder in ("entries", "staging")
                           for path in (self.root / folder).iterdir())
            files = 0
            for folder, _, names in os.walk(self.root):
                for name in names:
                    try:
                        files += os.lstat(os.path.join(folder, name)).st_size
                    except FileNotFoundError:
                        pass  # of a fill that was given up
        self.most = max(self.most, files, promised)
        return files, promised

    def staging(self):
        return [path.name for path in (self.root / "staging").iterdir()]

    def wrong_entries(self):
        """Looks at entries that were not seen before; what is wrong with them."""
        try:
            names = set(os.listdir(self.root / "entries"))
        except FileNotFoundError:
            return []
        fresh = names - self._seen
        self._seen = names
        return [wrong for wrong in map(self._wrong_with, fresh) if wrong]

    def _wrong_with(self, name):
        entry = read_entry(self.root / "entries" / name)
        if entry is None:
            return None
        uri_sha256, pair = entry
        self.compared += 1
        adapter = self.bucket.by_uri_sha256.get(uri_sha256)
        if adapter and pair in adapter.pairs:
            return None
        return f"{name}: config and weights {pair} never lay together in {adapter and adapter.uri}"
