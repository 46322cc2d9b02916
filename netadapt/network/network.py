"""A network that can be adapted: its module, channel groups and plan, found by looking at what it executes."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from netadapt.errors import ModelError, reason_of
from netadapt.network.fusion import read_workloads
from netadapt.network.groups import ChannelGroup, ChannelSurgeon, narrow_to_shape
from netadapt.network.plan import NotLinearError, Observation, Plan, fit_plan
from netadapt.network.soundness import require_sound
from netadapt.network.trace import Trace, trace
from netadapt.wording import counted

#: Relative difference up to which two outputs count as equal in float32.
_OUTPUT_TOLERANCE = 1e-3
_TRIAL_SEED = 0

OnOriginal = Callable[[Plan], None]
"""Hears, before any group is tried, the plan of the network as it is, of no groups."""
OnGroup = Callable[[str, int, int], None]
"""Hears the name of a channel group that is about to be tried, how many were before it, and of how many."""


@dataclass(frozen=True)
class LeftOut:
    """A channel group that the search does not touch, and why."""

    group: str
    reason: str


@dataclass(frozen=True)
class AdaptableNetwork:
    """A module with everything needed to narrow it and to predict what a narrowed one costs.

    `module` stays as it is; `shaped` and `narrowed` return new modules. `example_input` is `[N, C, H, W]`.
    """

    name: str
    module: nn.Module
    example_input: Tensor
    groups: Mapping[str, ChannelGroup]
    left_out: tuple[LeftOut, ...]
    plan: Plan

    @property
    def widths(self) -> dict[str, int]:
        """The original widths."""
        return dict(self.plan.original)

    def shaped(self, widths: Mapping[str, int]) -> nn.Module:
        """A new module of these widths; its weights are leading slices, meant to be replaced."""
        module = copy.deepcopy(self.module)
        smaller = {name: width for name, width in widths.items() if width != self.groups[name].width}
        if smaller:
            narrow_to_shape(module, self.example_input, self.groups, smaller)
        return module

    def narrowed(self, module: nn.Module, widths: Mapping[str, int]) -> nn.Module:
        """A copy of `module` in which each group keeps its `widths[group]` channels of largest L2 norm."""
        narrowed = copy.deepcopy(module)
        if not widths:
            return narrowed
        surgeon = ChannelSurgeon(narrowed, self.example_input)
        for name, width in widths.items():
            if width != surgeon.width(name):
                surgeon.remove(name, surgeon.weakest(self.groups[name], width))
        return narrowed


def analyse(
    name: str,
    module: nn.Module,
    example_input: Tensor,
    on_group: OnGroup | None = None,
    on_original: OnOriginal | None = None,
) -> AdaptableNetwork:
    """Find the channel groups of `module`, prove each by a trial narrowing, and fit the plan.

    A group whose trial fails, or whose narrowed network does not compute what the original computes without those
    channels, is left out with the reason.

    Raises:
        ModelError: the module cannot be copied or run, or not be judged by its output; see `require_sound`.

    """
    try:
        copied = copy.deepcopy(module).eval()
    except Exception as error:
        raise ModelError(f"{name} cannot be copied: {reason_of(error)}") from error
    require_sound(name, copied, example_input)
    return _Analysis(name, copied, example_input, on_group or (lambda group, done, total: None)).run(on_original)


def observe(module: nn.Module, example_input: Tensor, widths: Mapping[str, int]) -> Observation:
    """The workloads and parameter shapes of `module` as it is."""
    return _observation(trace(module, example_input), module, widths)


def _observation(traced: Trace, module: nn.Module, widths: Mapping[str, int]) -> Observation:
    reading = read_workloads(traced)
    shapes = tuple(tuple(parameter.shape) for parameter in module.parameters())
    return Observation(dict(widths), reading.workloads, shapes, reading.unknown)


class _TrialError(Exception):
    """A trial narrowing that shows that a group cannot be narrowed; the message is the reason."""


class _Analysis:
    def __init__(self, name: str, module: nn.Module, example_input: Tensor, on_group: OnGroup) -> None:
        self._name = name
        self._module = module
        self._example_input = example_input
        self._on_group = on_group
        self._random = random.Random(_TRIAL_SEED)

    def run(self, on_original: OnOriginal | None = None) -> AdaptableNetwork:
        if on_original is not None:
            on_original(fit_plan(self._at_original({}), {}))
        found, left_out = self._find_groups()
        groups: dict[str, ChannelGroup] = {}
        observations: dict[str, Observation] = {}
        for number, group in enumerate(found):
            self._on_group(group.name, number, len(found))
            try:
                observation = self._try(group)
                fit_plan(self._at_original({group.name: group.width}), {group.name: observation})
            except (_TrialError, NotLinearError) as error:
                left_out.append(LeftOut(group.name, str(error)))
            else:
                groups[group.name] = group
                observations[group.name] = observation
        return self._assemble(groups, observations, left_out)

    @cached_property
    def _original(self) -> Trace:
        try:
            return trace(self._module, self._example_input)
        except Exception as error:
            raise ModelError(f"{self._name} runs, but cannot be watched while it does: {reason_of(error)}") from error

    def _at_original(self, widths: Mapping[str, int]) -> Observation:
        return _observation(self._original, self._module, widths)

    def _find_groups(self) -> tuple[list[ChannelGroup], list[LeftOut]]:
        try:
            return self._surgeon(self._module).groups(), []
        except Exception as error:
            # Whatever third-party analysis trips over, the network as it is can still be measured and reported.
            return [], [LeftOut("all", f"its layers' dependencies cannot be analysed: {reason_of(error)}")]

    def _surgeon(self, module: nn.Module) -> ChannelSurgeon:
        return ChannelSurgeon(module, self._example_input)

    def _try(self, group: ChannelGroup) -> Observation:
        """Narrow the group to about half of its random channels and compare with the network blind to the others."""
        length = group.width // group.granularity
        if len(group.allowed_widths(1)) < 2:
            raise _TrialError(f"it has {counted(group.width, 'channel')}, which leaves none to remove")
        positions = self._uneven_sample(length)
        removed = [segment * length + position for segment in range(group.granularity) for position in positions]
        try:
            narrowed, traced = self._narrowed_trial(group, removed)
            expected = self._silenced_outputs(group, removed)
        except _TrialError:
            raise
        except Exception as error:
            raise _TrialError(f"the narrowed network fails: {reason_of(error)}") from error
        _check_outputs(traced.result, expected)
        return _observation(traced, narrowed, {group.name: group.width - len(removed)})

    def _uneven_sample(self, length: int) -> list[int]:
        """Positions to remove: three quarters of the upper half, one of the lower.

        So the halves that a split or chunk makes of what is left are never those that it made before.
        """
        half = length // 2
        lower = self._random.sample(range(half), half // 4)
        upper = self._random.sample(range(half, length), length - half - (length - half) // 4)
        return lower + upper

    def _narrowed_trial(self, group: ChannelGroup, removed: list[int]) -> tuple[nn.Module, Trace]:
        module = copy.deepcopy(self._module)
        surgeon = self._surgeon(module)
        part = surgeon.part_member(group.name)
        if part is not None:
            raise _TrialError(f"{part} has only some of its channels")
        surgeon.remove(group.name, sorted(removed))
        if surgeon.width(group.name) != group.width - len(removed):
            raise _TrialError("removing some of its channels removes others too")
        return module, trace(module, self._example_input)

    def _silenced_outputs(self, group: ChannelGroup, removed: list[int]) -> tuple[Tensor, ...]:
        module, surgeon = self._silenceable
        surgeon.silence(group.name, sorted(removed))
        try:
            return trace(module, self._example_input).result
        finally:
            module.load_state_dict(self._module.state_dict())

    @cached_property
    def _silenceable(self) -> tuple[nn.Module, ChannelSurgeon]:
        """One copy for all groups: silencing changes weights, which can be put back, not shapes."""
        module = copy.deepcopy(self._module)
        return module, self._surgeon(module)

    def _assemble(
        self, groups: dict[str, ChannelGroup], observations: dict[str, Observation], left_out: list[LeftOut]
    ) -> AdaptableNetwork:
        """Fit the plan of all groups; if narrowing them together is not the sum of its parts, keep those that are."""
        if self._explains(groups, observations):
            return self._network(groups, observations, left_out)
        kept: dict[str, ChannelGroup] = {}
        for name, group in groups.items():
            if self._explains({**kept, name: group}, observations):
                kept[name] = group
            else:
                left_out.append(LeftOut(name, "narrowing it together with other groups breaks the network"))
        return self._network(kept, observations, left_out)

    def _network(
        self, groups: dict[str, ChannelGroup], observations: dict[str, Observation], left_out: list[LeftOut]
    ) -> AdaptableNetwork:
        plan = self._plan(groups, observations)
        return AdaptableNetwork(self._name, self._module, self._example_input, groups, tuple(left_out), plan)

    def _plan(self, groups: Mapping[str, ChannelGroup], observations: Mapping[str, Observation]) -> Plan:
        base = self._at_original({name: group.width for name, group in groups.items()})
        return fit_plan(base, {name: observations[name] for name in groups})

    def _explains(self, groups: Mapping[str, ChannelGroup], observations: Mapping[str, Observation]) -> bool:
        """Whether the plan tells the workloads of the network narrowed in all groups at once."""
        plan = self._plan(groups, observations)
        widths = {name: self._random.choice(group.allowed_widths(1)) for name, group in groups.items()}
        module = copy.deepcopy(self._module)
        try:
            narrow_to_shape(module, self._example_input, groups, widths)
            seen = observe(module, self._example_input, widths)
        except Exception:
            return False
        return seen.workloads == plan.at(widths)


def _check_outputs(narrowed: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    if [output.shape for output in narrowed] != [output.shape for output in expected]:
        raise _TrialError("its channels are part of the network's output")
    for output, wanted in zip(narrowed, expected, strict=True):
        tolerance = _OUTPUT_TOLERANCE * float(wanted.abs().max().clamp_min(1e-6))
        if not torch.allclose(output, wanted, rtol=0.0, atol=tolerance):
            raise _TrialError(
                "the narrowed network does not compute what the original computes without those channels "
                "(a shuffle, a split, a fixed reshape or a normalisation across channels?)"
            )
