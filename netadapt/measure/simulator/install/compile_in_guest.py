"""Runs in the guest during set-up: compiles what a guest imports. Never imported on the host.

Its argument is the guest's root as a path relative to the working folder. Files are written by way of it: QEMU looks up
only what exists in the guest's root, so a new file with a path such as /usr/lib/... would be made on the host.
"""

import importlib.util
import py_compile
import sys

sys.path.append("/netadapt/site")

MODULES = (
    "array base64 builtins collections ctypes dataclasses encodings.ascii encodings.latin_1 encodings.utf_8 "
    "errno fcntl functools gc hashlib io itertools json linecache locale math mmap os pathlib pickle platform "
    "posix random re resource select shutil signal socket struct subprocess tempfile threading time traceback "
    "typing warnings zlib numpy ncnn onnxruntime"
)

for name in MODULES.split():
    __import__(name)

for module in list(sys.modules.values()):
    source = getattr(module, "__file__", None)
    if source and source.endswith(".py") and module.__name__ != "__main__":
        # Unchecked: the guest need not look at the source, whose time of change differs from machine to machine.
        py_compile.compile(
            source,
            cfile=sys.argv[1] + importlib.util.cache_from_source(source),
            dfile=source,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
