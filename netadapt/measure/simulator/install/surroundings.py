"""The first import of every guest program: keeps from Python what differs between the machines that QEMU runs on.

Without it the heap of a guest, and so the cycles of what it runs, would depend on the host's name and its disk. Lies in
the guest's python311.zip, because only from there a module is imported without listing a folder. Never imported on the
host.
"""

import os
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_finder = sys.modules["_frozen_importlib_external"].FileFinder
_uname = posix.uname_result(("Linux", "guest", "5.10.0", "#1 SMP", "aarch64"))


class _Everything:
    """The names in a folder, as far as the finder asks: it then looks for each file, instead of listing them all.

    The order of a listing differs from disk to disk, and the names in it would stay in memory in that order.
    """

    def __contains__(self, name: object) -> bool:
        return True


def _fill_cache(finder: "Any") -> None:
    finder._path_cache = finder._relaxed_path_cache = _Everything()


def _uname_of_guest() -> os.uname_result:
    return _uname


_finder._fill_cache = _fill_cache
posix.uname = _uname_of_guest
os.uname = _uname_of_guest
