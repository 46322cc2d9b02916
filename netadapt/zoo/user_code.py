"""Networks of the user's own: ``package.module:factory``."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt.errors import ModelError, reason_of
from netadapt.zoo.spec import NETWORKS

if TYPE_CHECKING:
    from torch import Tensor, nn


def names_user_code(name: str) -> bool:
    """Return whether ``name`` is of the form ``package.module:factory`` (or lacks only the factory)."""
    if re.split("[:@]", name.strip())[0] in NETWORKS:
        return False
    module_name, colon, _ = name.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        return False
    return "." in module_name or (bool(colon) and _is_importable(module_name))


def require_importable(name: str) -> None:
    """Check ``package.module:factory`` as far as that is possible without importing it.

    Raises:
        ModelError: it names no factory, or there is no such package.

    """
    module_name, _, factory_name = name.partition(":")
    if not factory_name:
        raise ModelError(f"{name!r} names no factory; write package.module:factory")
    package = module_name.partition(".")[0]
    if not _is_importable(package):
        raise ModelError(
            f"{name!r}: there is no package or module {package!r}; install it, or change to the folder that it lies in"
        )


def call_factory(name: str) -> tuple[nn.Module, Tensor | None]:
    """Import ``package.module:factory``, the current directory first, and call it.

    The factory takes no arguments and returns a module, or a module and an example input [1, C, H, W].

    Raises:
        ModelError: it cannot be imported, is not callable, fails, or returns something else.

    """
    require_importable(name)
    module_name, _, factory_name = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
        result = factory()
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise ModelError(f"{name!r}: {reason_of(error)}") from error
    return _module_and_input(name, result)


def _module_and_input(name: str, result: Any) -> tuple[nn.Module, Tensor | None]:
    from torch import Tensor, nn  # here, because checking a name must not cost its import

    if isinstance(result, nn.Module):
        return result, None
    match result:
        case (nn.Module() as module, Tensor() as example_input):
            if example_input.ndim == 4 and len(example_input) == 1:
                return module, example_input
            raise ModelError(f"{name!r}: the example input must be [1, C, H, W], not {list(example_input.shape)}")
    raise ModelError(f"{name!r} returned {type(result).__name__}, not a torch module or (module, example input)")


def _is_importable(module_name: str) -> bool:
    _add_current_directory()
    try:
        return importlib.util.find_spec(module_name) is not None
    except ValueError:  # of a module that has none, such as __main__
        return False


def _add_current_directory() -> None:
    """Make the user's own files importable, for good: worker processes inherit the path and need them too."""
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
