"""The errors a user can meet. Each message says what was wrong, where, and what to do about it."""

from __future__ import annotations

#: Longer messages of other software say where in its source they come from.
_LONGEST_REASON = 300


def reason_of(error: BaseException) -> str:
    """Return what an error of other software says in one line: its type, and the first line of its text."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"{kind}: {lines[0][:_LONGEST_REASON]}" if lines else kind


class NetAdaptError(Exception):
    """Base of every error this package raises on purpose; the command line turns it into exit code 2."""


class UnknownNameError(NetAdaptError):
    """A network, platform, metric, data set or option value that does not exist."""

    def __init__(self, kind: str, name: str, known: list[str] | tuple[str, ...]) -> None:
        choices = ", ".join(sorted(known))
        super().__init__(f"unknown {kind} {name!r}; choose one of: {choices}")
        self.kind = kind
        self.name = name


class OptionError(NetAdaptError):
    """An option or argument whose value cannot be used: a number out of range, a file that cannot be written."""


class DefinitionError(NetAdaptError):
    """A platform definition that cannot be used; lists every fault of the file at once."""


class MeasurementError(NetAdaptError):
    """A model could not be measured on a platform."""


class SetupError(MeasurementError):
    """The simulator could not be set up, or is not set up."""


class DeviceError(MeasurementError):
    """Something went wrong with a board, or with what ran there."""


class DeviceBusy(DeviceError):  # noqa: N818 - a state, not a mistake
    """Every board is measuring for somebody else, for longer than the platform's limit."""


class DeviceLost(DeviceError):  # noqa: N818
    """A board or tracker cannot be reached, does not answer, or went away in the middle."""


class SessionTimeout(DeviceError):  # noqa: N818
    """A board did not end a measurement within the platform's limit."""


class KernelInvalid(DeviceError):  # noqa: N818
    """Compiled code gives another result than ONNX Runtime; it is not timed."""


class KernelCrashed(DeviceError):  # noqa: N818
    """Compiled code, or the runtime that runs it, ended its process on the board."""


class ClockZero(DeviceError):  # noqa: N818
    """The board's clock says that a run took no time."""


class Throttled(DeviceError):  # noqa: N818
    """A board is too hot, or has lowered its clock."""


class TuningError(NetAdaptError):
    """Tuning records that are missing, damaged, or made for something else, or a platform that cannot be tuned."""


class ModelError(NetAdaptError):
    """A file that is not a usable model, weights that do not fit, or a network that cannot be traced or exported."""


class DataError(NetAdaptError):
    """A data set that is missing, empty, truncated or mislabelled."""


class TableError(NetAdaptError):
    """A look-up table that cannot be read, or that was made by a newer version."""


class BudgetError(NetAdaptError):
    """A budget that is already met, impossible, or out of the schedule's reach."""


class TaskError(NetAdaptError):
    """A task whose evaluation does not fit the images that it was given."""


class NonFiniteLossError(NetAdaptError):
    """Training produced a loss that is NaN or infinite."""


class RunError(NetAdaptError):
    """A run folder that is in use, belongs to another configuration, or is damaged."""


class OutputError(NetAdaptError):
    """A file to be written whose place is taken by something else, or cannot be written to."""


class CaseError(NetAdaptError):
    """A benchmark case that does not exist, or whose definition changed without a new version."""


class ResultsError(NetAdaptError):
    """A results file that is truncated, edited by hand, of a newer schema, or that cannot be written."""
