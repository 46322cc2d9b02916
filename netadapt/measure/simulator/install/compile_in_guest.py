"""Runs in the guest during set-up: compiles what a guest imports. Never imported on the host.

Its argument is the guest's root as a path relative to the working folder. Files are written by way of it: QEMU looks up
only what exists in the guest's root, so a new file with a path such as /usr/lib/... would be made on the host.
"""

import importlib.util
import os
import py_compile
import sys
import zipfile

sys.path.append("/netadapt/site")
# Of TVM there is only the runtime.
os.environ["TVM_USE_RUNTIME_LIB"] = "1"

MODULES = (
    "argparse array base64 builtins collections ctypes dataclasses encodings.ascii encodings.latin_1 encodings.utf_8 "
    "errno fcntl functools gc hashlib io itertools json linecache locale logging math mmap os pathlib pickle platform "
    "posix random re resource select shutil signal socket struct subprocess tempfile threading time traceback "
    "typing warnings zlib numpy numpy.random ncnn onnxruntime tvm tvm.rpc.server tvm.runtime.vm"
)

ARCHIVE = "/usr/lib/python311.zip"
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


def main(root: str) -> None:
    """Compile everything; `root` is the guest's root, relative to the working folder."""
    for name in MODULES.split():
        __import__(name)
    sources = {name: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())}
    del sources["__main__"]
    for source in sources.values():
        if source.endswith(".py"):
            compiled(root, source, importlib.util.cache_from_source(source))
    # Python looks here first, and finds a module without listing a folder, whose order differs from disk to disk.
    with zipfile.ZipFile(root + ARCHIVE, "w") as archive:
        for name, source in sorted(sources.items()):
            if name.split(".")[0] == "encodings":
                file = compiled(root, source, importlib.util.cache_from_source(source))
                add(archive, source.removeprefix("/usr/lib/python3.11/").removesuffix(".py"), file)
        add(archive, "surroundings", compiled(root, "/netadapt/surroundings.py", "/netadapt/surroundings.pyc"))


def compiled(root: str, source: str, target: str) -> str:
    """Compile a file without its time: that differs from machine to machine, and the guest need not look."""
    py_compile.compile(source, cfile=root + target, dfile=source, doraise=True, invalidation_mode=UNCHECKED)
    return root + target


def add(archive: zipfile.ZipFile, stem: str, file: str) -> None:
    """Put a compiled file into the archive; without its time, either."""
    with open(file, "rb") as stream:
        archive.writestr(zipfile.ZipInfo(f"{stem}.pyc"), stream.read())


main(sys.argv[1])
