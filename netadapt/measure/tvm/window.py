"""How a convolution or a pool slides over an image."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from netadapt.measure.tvm.code import Index


@dataclass(frozen=True, slots=True)
class Window:
    """Sizes of images and of the window on them; pairs are (height, width)."""

    in_size: tuple[int, int]
    out_size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    #: Above and at the left; how much is missing at the other sides follows from the sizes.
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def is_pointwise(self) -> bool:
        """Whether each pixel depends on the same pixel of the input alone."""
        return self.kernel == self.stride == (1, 1) and self.in_size == self.out_size

    def first(self, position: Index, axis: int) -> Index:
        """Where the window of an output position begins in the input; before 0 where it is cut."""
        return position * self.stride[axis] - self.padding[axis]

    def taps(self, position: Index, axis: int) -> tuple[Index, Index]:
        """The first element of the window that lies in the image, and how many do, for a position of the output."""
        length, step = self.kernel[axis], self.dilation[axis]
        begin = self.first(position, axis)
        if not self.is_cut(axis):
            return 0, length
        low = tirx.max(0, tirx.floordiv(step - 1 - begin, step))
        high = tirx.min(length, tirx.floordiv(self.in_size[axis] - 1 - begin, step) + 1)
        return low, high - low

    def covers(self, position: int, tap: int, axis: int = 1) -> bool:
        """Whether an element of the window lies in the image, for a position (column) of the output."""
        at: int = self.first(position, axis) + tap * self.dilation[axis]
        return 0 <= at < self.in_size[axis]

    @property
    def meets_image(self) -> bool:
        """Whether there is a window that does not lie in the padding alone."""
        return all(
            any(self.covers(position, tap, axis) for position in range(self.out_size[axis]) for tap in range(length))
            for axis, length in enumerate(self.kernel)
        )

    def is_inside(self, start: int, count: int) -> bool:
        """Whether no window of `count` columns of the output is cut at a side."""
        return self.covers(start, 0) and self.covers(start + count - 1, self.kernel[1] - 1)

    def is_cut(self, axis: int) -> bool:
        """Whether any window reaches over the border."""
        end = self.first(self.out_size[axis] - 1, axis) + self.dilation[axis] * (self.kernel[axis] - 1)
        return self.padding[axis] > 0 or end >= self.in_size[axis]

    def to_list(self) -> list[int]:
        """As a plain list, for an annotation of TVM."""
        pairs = (self.in_size, self.out_size, self.kernel, self.stride, self.padding, self.dilation)
        return [number for pair in pairs for number in pair]

    @classmethod
    def from_list(cls, numbers: list[int]) -> Window:
        """Read what `to_list` wrote."""
        flat = [int(number) for number in numbers]
        return cls(*((flat[index], flat[index + 1]) for index in range(0, len(flat), 2)))
