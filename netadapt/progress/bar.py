"""Progress on a terminal: one bar for the work in hand, with the time left of all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from netadapt.progress.status import Status
from netadapt.progress.time_left import TimeLeft

#: Of the bar, a second: what draws it takes a moment from what is being measured.
_REFRESHES = 2


class Bar:
    """Shows the newest status as a bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def show(self, status: Status) -> None:
        """Draw the bar of a status; one that moves to and fro is of something that cannot be counted."""
        total = status.total or None
        if self._task is None:
            self._task = self._progress.add_task(status.text, total=total)
        self._progress.update(self._task, description=status.text, completed=status.done, total=total)

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        self._progress.console.print(text, soft_wrap=True, markup=False)

    def clear(self) -> None:
        """Take the bar away."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


class _Left(ProgressColumn):
    def __init__(self, time_left: TimeLeft) -> None:
        super().__init__()
        self._time_left = time_left

    def render(self, task: Task) -> Text:
        return Text(str(self._time_left), style="progress.remaining")


@contextmanager
def bar(console: Console, time_left: TimeLeft) -> Iterator[Bar]:
    """Draw a bar on a terminal while the block runs."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Left(time_left))
    with Progress(*columns, console=console, transient=True, refresh_per_second=_REFRESHES) as progress:
        yield Bar(progress)
