import pytest
from hypothesis import given
from hypothesis import strategies as st

from netadapt.errors import BudgetError, UnknownNameError
from netadapt.search.budget import Budget, Pace, Schedule, in_words, parse_budgets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency=0.6x", Budget("latency", 0.6, relative=True)),
        ("latency=20ms", Budget("latency", 20e6, relative=False)),
        ("Latency=1.5US", Budget("latency", 1500, relative=False)),
        ("macs=3M", Budget("macs", 3e6, relative=False)),
        ("params=200k", Budget("params", 200e3, relative=False)),
        ("macs=2e6", Budget("macs", 2e6, relative=False)),
        ("energy=3mJ", Budget("energy", 3e9, relative=False)),
    ],
)
def test_budgets_are_read_with_their_units(text: str, expected: Budget) -> None:
    assert Budget.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("latency", "METRIC=AMOUNT"),
        ("latency=", "METRIC=AMOUNT"),
        ("latency=fast", "METRIC=AMOUNT"),
        ("latency=1.2.3ms", "not a number"),
        ("latency=20", "needs a unit"),
        ("latency=20M", "ns, us, ms, s"),
        ("macs=0", "above 0"),
        ("latency=1x", "met already"),
        ("latency=1.7x", "met already"),
    ],
)
def test_a_malformed_budget_says_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(BudgetError, match=complaint):
        Budget.parse(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("latency=0.6", "latency=0.6x (0.6 times the original)"),
        ("energy=.5", "energy=.5x (.5 times the original)"),
        ("macs=0.8", "macs=0.8x (0.8 times the original)"),
        ("params=0.25", "params=0.25x (0.25 times the original)"),
        ("latency=60%", "latency=0.6x (60 % of the original)"),
        ("macs=60%", "macs=0.6x (60 % of the original)"),
        ("latency=20", "latency=20ms"),
        ("latency=20M", "latency=20ms"),
        ("energy=3", "energy=3mJ"),
        ("latency=2x", "latency=0.5x (1/2 of the original)"),
    ],
)
def test_a_budget_that_was_probably_meant_otherwise_says_how(text: str, meant: str) -> None:
    with pytest.raises(BudgetError) as raised:
        Budget.parse(text)
    assert str(raised.value).endswith(f"did you mean {meant}?")
    Budget.parse(meant.split(" ")[0])


@pytest.mark.parametrize("text", ["latency=1x", "latency=100%", "macs=3ms", "macs=0.0005k"])
def test_nothing_is_suggested_where_nothing_is_likely(text: str) -> None:
    with pytest.raises(BudgetError) as raised:
        Budget.parse(text)
    assert "did you mean" not in str(raised.value)


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="energy, latency, macs, params"):
        Budget.parse("speed=0.5x")


def test_one_budget_for_each_metric() -> None:
    assert [budget.metric for budget in parse_budgets(["latency=0.5x", "macs=0.7x"])] == ["latency", "macs"]
    with pytest.raises(BudgetError, match="more than one budget"):
        parse_budgets(["macs=0.5x", "macs=3M"])
    with pytest.raises(BudgetError, match="no budget"):
        parse_budgets([])


def test_a_budget_that_the_original_meets_is_refused() -> None:
    assert Budget.parse("latency=20ms").limit(30e6) == 20e6
    assert Budget.parse("macs=0.25x").limit(1000) == 250
    with pytest.raises(BudgetError, match="the budget of 20 ms for latency is met already: the network costs 20 ms"):
        Budget.parse("latency=20ms").limit(20e6)


def test_costs_in_messages_have_their_units() -> None:
    assert in_words("latency", 27_824) == "27.824 us"
    assert in_words("latency", 12_000_000_000) == "12 s"
    assert in_words("latency", 0.5) == "0.5 ns"
    assert in_words("energy", 760_328_000) == "760.33 uJ"
    assert in_words("macs", 384_064) == "384,064"


def test_limits_fall_by_decaying_steps_from_what_the_network_costs() -> None:
    # 100 -> 40 in two steps of decay 0.5: the steps are 40 and 20.
    schedule = Schedule(Pace(iterations=2, decay=0.5), {"macs": 100.0}, {"macs": 40.0})
    assert schedule.limits(0, {"macs": 100.0}) == {"macs": pytest.approx(60.0)}
    # The first network came out at 55 instead of 60: the last step goes to the budget all the same.
    assert schedule.limits(1, {"macs": 55.0}) == {"macs": 40.0}
    assert not schedule.is_met({"macs": 40.1})
    assert schedule.is_met({"macs": 40.0})


def test_a_given_initial_reduction_is_a_share_of_the_original() -> None:
    schedule = Schedule(Pace(iterations=3, decay=0.5, initial_reduction=0.2), {"macs": 100.0}, {"macs": 70.0})
    assert schedule.limits(0, {"macs": 100.0}) == {"macs": pytest.approx(80.0)}
    assert schedule.limits(1, {"macs": 80.0}) == {"macs": pytest.approx(70.0)}


def test_a_metric_within_its_budget_may_not_grow_above_it() -> None:
    original, budget = {"macs": 100.0, "params": 10.0}, {"macs": 50.0, "params": 8.0}
    schedule = Schedule(Pace(iterations=2, decay=1.0), original, budget)
    assert schedule.limits(0, {"macs": 80.0, "params": 5.0}) == {"macs": pytest.approx(55.0), "params": 8.0}


def test_a_schedule_that_cannot_reach_the_budget_says_what_would() -> None:
    # Steps of 10 %, 5 % and 2.5 % make 17.5 %; 35 % are needed, twice as much.
    with pytest.raises(
        BudgetError, match=r"reduce macs by 17\.5%, but 35\.0% are needed.*reduction of 20\.00% or more$"
    ):
        Schedule(Pace(iterations=3, decay=0.5, initial_reduction=0.1), {"macs": 100.0}, {"macs": 65.0})
    # Undiminished steps of 10 % need four iterations.
    with pytest.raises(BudgetError, match="or 4 iterations"):
        Schedule(Pace(iterations=3, decay=1.0, initial_reduction=0.1), {"macs": 100.0}, {"macs": 65.0})


@pytest.mark.parametrize("pace", [{"iterations": 0}, {"decay": 0.0}, {"decay": 1.1}, {"initial_reduction": 1.0}])
def test_an_impossible_pace_is_refused(pace: dict[str, float]) -> None:
    with pytest.raises(BudgetError):
        Pace(**pace)  # type: ignore[arg-type]


@given(
    iterations=st.integers(1, 40),
    decay=st.floats(0.5, 1.0),
    original=st.floats(1.0, 1e9),
    share=st.floats(0.05, 0.95),
)
def test_networks_that_just_meet_each_limit_arrive_at_the_budget_in_time(
    iterations: int, decay: float, original: float, share: float
) -> None:
    schedule = Schedule(Pace(iterations, decay), {"macs": original}, {"macs": share * original})
    cost = {"macs": original}
    taken = 0
    while not schedule.is_met(cost):
        limits = schedule.limits(taken, cost)
        assert limits["macs"] < cost["macs"]
        cost = limits
        taken += 1
    assert taken <= iterations
