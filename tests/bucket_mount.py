"""A stand-in for Cloud Storage FUSE: a real mount, in a process of its own, with a bucket's limits.

Usage: ``python tests/bucket_mount.py FOLDER JOURNAL``. Objects are kept in memory. As gcsfuse does, it

- shows a file's new content when the file is closed,
- shows every file as the mounting user's, with the modes 0644 and 0755, and lets the kernel enforce them,
- refuses hard links and the renaming of folders.

It also refuses what gcsfuse does only slowly or without effect, and what this project must not depend on:
changes of mode or owner, opening a file to read and write, and writing anywhere but at the end. Every line of
the journal is an operation and a path; reads are followed by the number of bytes.
"""

import ctypes
import errno
import os
import signal
import stat
import sys
import time
from pathlib import Path

import mfusepy

_PR_SET_PDEATHSIG = 1


class Bucket(mfusepy.Operations):
    """Objects by path; folders are a set of paths."""

    use_ns = True

    def __init__(self, journal: Path) -> None:
        self._journal = journal.open("a", buffering=1)
        self._folders = {"/"}
        self._objects: dict[str, bytes] = {}
        self._open: dict[int, tuple[str, bytearray]] = {}
        self._handles = 0
        self._began = time.time_ns()

    def _note(self, *words: object) -> None:
        print(*words, file=self._journal)

    def _refuse(self, code: int, *words: object) -> None:
        self._note("refused", *words)
        raise mfusepy.FuseOSError(code)

    def _size(self, path: str) -> int | None:
        for name, written in self._open.values():
            if name == path:
                return len(written)
        return len(self._objects[path]) if path in self._objects else None

    def getattr(self, path, fh=None):
        common = {
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
            "st_nlink": 1,
            **dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), self._began),
        }
        if path in self._folders:
            return {"st_mode": stat.S_IFDIR | 0o755, **common}
        size = self._size(path)
        if size is None:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return {"st_mode": stat.S_IFREG | 0o644, "st_size": size, **common}

    def readdir(self, path, fh):
        names = [*self._folders, *self._objects, *(name for name, _ in self._open.values())]
        below = {Path(name).name for name in names if name != "/" and str(Path(name).parent) == path}
        return [".", "..", *below]

    def mkdir(self, path, mode):
        self._folders.add(path)
        return 0

    def rmdir(self, path):
        self._folders.remove(path)
        return 0

    def unlink(self, path):
        self._note("unlink", path)
        self._objects.pop(path, None)
        return 0

    def create(self, path, mode, fi=None):
        return self._write_to(path)

    def open(self, path, flags):
        access = flags & os.O_ACCMODE
        if access == os.O_RDWR or (access == os.O_WRONLY and not flags & (os.O_TRUNC | os.O_APPEND)):
            self._refuse(errno.ENOTSUP, "open", path)
        if access == os.O_WRONLY:
            return self._write_to(path, self._objects[path] if flags & os.O_APPEND else b"")
        self._note("open", path)
        self._handles += 1
        return self._handles

    def _write_to(self, path: str, content: bytes = b"") -> int:
        self._note("create", path)
        self._handles += 1
        self._open[self._handles] = (path, bytearray(content))
        return self._handles

    def truncate(self, path, length, fh=None):
        for name, written in self._open.values():
            if name == path and length == 0:
                written.clear()
                return 0
        if length == 0:
            return 0
        return self._refuse(errno.ENOTSUP, "truncate", path)

    def read(self, path, size, offset, fh):
        content = self._objects[path][offset : offset + size]
        self._note("read", path, len(content))
        return content

    def write(self, path, data, offset, fh):
        _, written = self._open[fh]
        if offset != len(written):
            self._refuse(errno.ENOTSUP, "write", path)
        written += data
        return len(data)

    def flush(self, path, fh):
        if fh in self._open:
            self._objects[path] = bytes(self._open[fh][1])
        return 0

    def release(self, path, fh):
        self._open.pop(fh, None)
        return 0

    def fsync(self, path, datasync, fh):
        return 0

    def rename(self, old, new, flags=0):
        if old in self._folders:
            self._refuse(errno.EMFILE, "rename", old)
        self._note("rename", old)
        self._objects[new] = self._objects.pop(old)
        return 0

    def link(self, target, source):
        self._refuse(errno.ENOTSUP, "link", source)

    def symlink(self, target, source):
        self._refuse(errno.ENOTSUP, "symlink", source)

    def chmod(self, path, mode):
        self._refuse(errno.ENOTSUP, "chmod", path)

    def chown(self, path, uid, gid):
        self._refuse(errno.ENOTSUP, "chown", path)

    def utimens(self, path, times=None):
        return 0


if __name__ == "__main__":
    # Unmount even if the tests are killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    mfusepy.FUSE(
        Bucket(Path(sys.argv[2])),
        sys.argv[1],
        foreground=True,
        nothreads=True,
        subtype="gcsfuse",
        default_permissions=True,
        **({"allow_other": True} if os.getuid() == 0 else {}),
    )
