"""A compiled model in TVM's virtual machine, inside the simulated machine."""

import importlib.metadata
import os
import resource
import sys


def _hide_host():
    """Keep TVM's import from seeing what differs between hosts: the heap would depend on it, and so the cycles."""
    # The runtime alone; backends of others would be looked for in folders, whose order differs from disk to disk.
    os.environ["TVM_USE_RUNTIME_LIB"], os.environ["TVM_DEVICE_BACKEND_AUTOLOAD"] = "1", "0"
    os.environ["TVM_NUM_THREADS"] = "1"
    # Otherwise a compiler is looked for on the host.
    os.environ["CXX"] = "none"
    # They need libraries that the guest has not, but that the host may have.
    for name in ("_bz2", "_hashlib", "_lzma"):
        sys.modules.setdefault(name, None)
    # Where TVM's libraries lie is found by the place of its modules, too, which lists no folder.
    importlib.metadata.distribution = _no_distribution
    os.getcwd = _root


def _no_distribution(name):
    raise importlib.metadata.PackageNotFoundError(name)


def _root():
    return "/"


_hide_host()
import numpy as np  # noqa: E402
import tvm_ffi  # noqa: E402


def _import_tvm():
    # TVM raises errors in C++ when it is imported without its compiler, and for the first it looks up where in its
    # program it is, by the host's path. When it cannot open a file it never tries again.
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    tvm_ffi.core._object_type_key_to_index("absent")
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    import tvm.runtime.vm

    return tvm


tvm = _import_tvm()
_CPU = tvm.cpu()


class TvmProgram:
    """A library with its inputs bound: a run is one call, which returns nothing."""

    def __init__(self, request):
        # By a path that is as long everywhere: of a relative one the dynamic linker keeps the whole, and tvm.runtime's
        # function asks for it, too.
        library = tvm_ffi.load_module("/proc/self/cwd/" + request["files"][0])
        machine = tvm.runtime.vm.VirtualMachine(library, _CPU)
        self._tensors = [tvm.runtime.empty(tuple(shape), dtype, _CPU) for shape, dtype in request["inputs"]]
        self._arrays = [np.from_dlpack(tensor) for tensor in self._tensors]
        machine.save_function("main", "run", *self._tensors, include_return=False)
        self.run = machine.module["run"]

    def prepare(self):
        """Write the inputs, last, as the layer before does."""
        for array in self._arrays:
            array.fill(0.5)
