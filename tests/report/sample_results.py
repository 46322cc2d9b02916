"""Results of all benchmark cases on two platforms, made up but of the sizes and shapes that real ones have."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from netadapt.results.files import write_run
from netadapt.results.schema import CaseResult, Clock, Figure, Made, PlatformCard, Profile, ResultFile

NETWORK = "mobilenet_v1:0.5@32"
GROUPS = {"features.0.0": 16, "features.1.1.0": 32, "features.2.1.0": 64, "features.10.1.0": 256}
LAYERS = ("conv", "depthwise", "conv", "depthwise", "conv", "depthwise", "conv", "global_avg_pool", "linear")


def card(platform: str, tier: str = "simulated") -> PlatformCard:
    return PlatformCard(
        schema_version=1,
        name=platform,
        title=f"A {tier} platform",
        tier=tier,  # type: ignore[arg-type]
        fingerprint="294041e05aaae0fc",
        definition={"runtime": {"name": "ort", "threads": 1}, "card": f"What {platform} is good for."},
    )


def result(
    platform: str,
    cases: list[CaseResult],
    *,
    clock: Clock = "platform",
    tier: str = "simulated",
    profile: Profile = "full",
    date: str = "2026-11-24",
) -> ResultFile:
    return ResultFile(
        schema_version=1,
        platform=platform,
        requested=platform,
        tier=tier,  # type: ignore[arg-type]
        fingerprint="294041e05aaae0fc",
        clock=clock,
        profile=profile,
        protocol_version=2,
        made=Made(date=date, commit="0123abcd4567", netadapt="0.1.0"),
        environment={"platform onnxruntime": "1.27.0", "platform core": "a62e" * 16, "torch": "2.13.0"},
        cases=tuple(cases),
    )


def case(case_id: str, data: dict[str, Any], figures: dict[str, Figure] | None = None) -> CaseResult:
    return CaseResult(
        id=case_id, version=1, digest="d" * 16, parameters={"seeds": [0]}, figures=figures or {}, data=data
    )


def figure(value: float, unit: str = "ns", **changes: Any) -> Figure:
    return Figure(**{"value": value, "unit": unit, "better": "lower", "origin": "measured", **changes})


def write_large(root: Path) -> Path:
    """Results of a network of many groups and layers with long names, a long run, and one wild prediction."""
    generator = random.Random(0)
    groups = {f"stages.{stage}.blocks.{block}.conv.0": 16 << stage for stage in range(5) for block in range(8)}
    data = end_to_end(generator, 40, groups)
    kinds = ("conv 256->{} 14x14 k1x1 s1 hardswish", "concat 128+128+64+32->{} 112x112", "add 512+512->{} 28x28")
    data["layers"] = {
        when: [
            {"workload": kinds[index % 3].format(width), "latency_ns": share * generator.expovariate(1e-6)}
            for index in range(90)
        ]
        for when, width, share in (("before", 1024, 1.0), ("after", 768, 0.6))
    }
    accuracy = lut_accuracy(generator, 200)
    accuracy["networks"][0]["predicted_ns"] *= 1.8
    for network in accuracy["networks"][100:]:
        network["predicted_ns"], network["measured_ns"] = (
            10 * network[name] for name in ("predicted_ns", "measured_ns")
        )
    cases = [case("end_to_end_speedup", data), case("lut_accuracy", accuracy | {"run": [], "noise": []})]
    write_run(root, [result("sim-cortex-a53", cases)], card("sim-cortex-a53"))
    return root / "sim-cortex-a53"


def write_sample(root: Path, platform: str = "sim-cortex-a72", tier: str = "simulated") -> Path:
    """Write the results of all cases, by both clocks, into a folder of platforms; gives the platform's folder."""
    by_platform = result(platform, platform_cases(), tier=tier)
    by_host = result(platform, host_cases(), tier="local", clock="host")
    write_run(root, [by_platform, by_host], card(platform, tier))
    return root / platform


def platform_cases() -> list[CaseResult]:
    generator = random.Random(0)
    return [
        case("lut_accuracy", lut_accuracy(generator), {"mape": figure(0.021, "share", origin="derived")}),
        case("proposal_latency", proposal_latency(generator), {"worst": figure(0.04, "share", origin="derived")}),
        case(
            "end_to_end_speedup",
            end_to_end(generator),
            {
                "speedup_over_multipliers": figure(1.42, "ratio", low=1.31, high=1.55, better="higher"),
                "speedup_over_original": figure(2.03, "ratio", low=2.01, high=2.05, better="higher"),
                "original_test_accuracy": figure(0.9312, "share", better="higher", origin="evaluated"),
                "netadapt_latency_test_accuracy": figure(0.9275, "share", better="higher", origin="evaluated"),
                "adapted_latency": figure(412_345.0, samples=(412_345.0,), status="contended"),
            },
        ),
        case("ablations", ablations(generator)),
        case("simulator_fidelity", fidelity(generator)),
        case(
            "determinism",
            {
                "digits": [
                    {"what": "cycles of mobilenet_v1", "first": 123_456_789, "second": 123_456_789},
                    {"what": "widths", "first": GROUPS, "second": dict(GROUPS)},
                    {"what": "weights of iteration 3", "first": "9dd04b48", "second": "9dd04b48"},
                ]
            },
        ),
        case("speedup_vs_exhaustive", found_by_searches()),
    ]


def host_cases() -> list[CaseResult]:
    costs = [
        {"group": group, "choose_width_s": 0.002, "choose_filters_s": 0.011, "fine_tune_s": 3.2, "evaluate_s": 0.4}
        for group in GROUPS
    ]
    runs = [
        {
            "seed": 0,
            "label": "filled table",
            "workers": workers,
            "wall_s": 300 / workers,
            "training_s": 290.0,
            "proposals": 60,
            "measurements": 327,
        }
        for workers in (1, 2)
    ]
    return [
        case("proposal_latency", {"proposals": costs}),
        case("search_cost", {"runs": runs}),
        case("speedup_vs_exhaustive", times_of_searches()),
    ]


#: Name, idea, seconds of the search, test accuracy, by seed.
SEARCHES = (
    ("paper", None, (1400.0, 1600.0), (0.92, 0.924)),
    ("fast", None, (200.0, 160.0), (0.921, 0.925)),
    ("fast without", "groups", (700.0,), (0.919,)),
    ("fast without", "racing", (400.0,), (0.9215,)),
)


def found_by_searches() -> dict[str, Any]:
    runs = [
        {
            **common,
            "iterations": 12,
            "budget_met": True,
            "latency_ns": 480_000,
            "holdout_accuracy": 0.93,
        }
        for common, _ in searches()
    ]
    return {"data": "fashion-mnist", "runs": runs, "reference": [{"network": NETWORK, "made": 24, "same": 24}]}


def times_of_searches() -> dict[str, Any]:
    runs = [
        {
            **common,
            "workers": 2,
            "search_s": seconds,
            "wall_s": seconds + 100,
            "training_s": 1.9 * seconds,
            "measurements": 0,
        }
        for common, seconds in searches()
    ]
    remade = {"network": NETWORK, "seed": 0, "workers": 2, "made": 24, "proposals": 150, "wall_s": 448.0}
    return {"runs": runs, "reference": [{**remade, "training_s": 500.0, "extrapolated_s": 2800.0}]}


def searches() -> list[tuple[dict[str, Any], float]]:
    """What both clocks tell of each run, and how long it took."""
    return [
        (
            {"network": NETWORK, "seed": seed, "arm": arm, "idea": idea, "proposals": 150, "test_accuracy": accuracy},
            seconds,
        )
        for arm, idea, times, accuracies in SEARCHES
        for seed, (seconds, accuracy) in enumerate(zip(times, accuracies, strict=True))
    ]


def lut_accuracy(generator: random.Random, networks: int = 60) -> dict[str, Any]:
    def pair(low: float, high: float, spread: float) -> dict[str, Any]:
        measured = generator.uniform(low, high)
        return {"predicted_ns": measured * (1 + generator.gauss(0.01, spread)), "measured_ns": measured}

    return {
        "network": "mobilenet_v1:0.5@32",
        "networks": [{"widths": GROUPS, **pair(3e5, 1.1e6, 0.02)} for _ in range(networks)],
        "run": [{"iteration": index, **pair(4e5, 1e6, 0.015)} for index in range(12)],
        "noise": [
            {"first_ns": first, "second_ns": first * (1 + generator.gauss(0, 0.004))}
            for first in (generator.uniform(3e5, 1.1e6) for _ in range(12))
        ],
        "layers": [
            {
                "workload": "conv 64->128 8x8 k1x1 s1 relu",
                "predicted_ns": 21_000,
                "measured_ns": 19_400,
                "how": "measured again",
            }
        ],
    }


def proposal_latency(generator: random.Random) -> dict[str, Any]:
    return {
        "network": "mobilenet_v1:0.5@32",
        "limit_ns": 950_000,
        "original_ns": 1_000_000,
        "proposals": [
            {
                "group": group,
                "from_width": width,
                "width": width // 2,
                "predicted_ns": 940_000,
                "measured_ns": 940_000 * (1 + generator.gauss(0, 0.01)),
                "holdout_accuracy": 0.93 - generator.random() / 50,
            }
            for group, width in GROUPS.items()
        ],
    }


def end_to_end(generator: random.Random, iterations: int = 8, groups: dict[str, int] = GROUPS) -> dict[str, Any]:
    return {
        "network": "mobilenet_v1:0.5@32",
        "data": "fashion-mnist",
        "epochs": {"pre_training": 20, "fine_tuning": 10, "from_scratch": 30},
        "arms": arms(generator),
        "runs": [run(generator, driver, iterations, groups) for driver in ("macs", "latency")],
        "layers": {"before": layers(1.0), "after": layers(0.5)},
    }


def arms(generator: random.Random) -> list[dict[str, Any]]:
    worth = {
        "multiplier": (0.0, (0.25, 0.375, 0.5, 0.75)),
        "uniform": (0.004, (0.3, 0.45, 0.6, 0.8)),
        "netadapt-macs": (0.008, (0.35, 0.5, 0.7)),
        "netadapt-latency": (0.014, (0.3, 0.45, 0.65)),
        "netadapt-macs-retrained": (0.005, (0.35, 0.5, 0.7)),
        "netadapt-latency-retrained": (0.011, (0.3, 0.45, 0.65)),
        "original": (0.012, (1.0,)),
    }
    return [
        {
            "arm": arm,
            "label": f"{share:g}x",
            "seed": seed,
            "widths": GROUPS,
            "latency_ns": 1e6 * share * (1 + generator.gauss(0, 0.01)),
            "predicted_ns": None if arm == "multiplier" else 1e6 * share,
            "macs": 1.2e7 * share,
            "params": 820_000 * share,
            "holdout_accuracy": 0.93,
            "test_accuracy": 0.935 - 0.02 * (1 - share) ** 2 * 3 + bonus - 0.012 + generator.gauss(0, 0.0012),
        }
        for arm, (bonus, shares) in worth.items()
        for share in shares
        for seed in (0, 1, 2)
    ]


def run(generator: random.Random, driver: str, iterations: int, groups: dict[str, int]) -> dict[str, Any]:
    widths, entries = dict(groups), []
    for number in range(iterations + 1):
        group = None if number == 0 else list(groups)[number % len(groups)]
        if group:
            widths = {**widths, group: max(4, int(0.7 * widths[group]))}
        cost, accuracy = 1e6 * 0.93**number, 0.938 - 0.0012 * number
        others = [
            {
                "group": other,
                "width": widths[other] // 2,
                "predicted_ns": cost * generator.uniform(0.96, 1) if driver == "latency" else None,
                "holdout_accuracy": accuracy - generator.expovariate(200),
            }
            for other in groups
            if group and other != group
        ]
        chosen = (
            {"group": group, "width": widths[group], "predicted_ns": cost, "holdout_accuracy": accuracy}
            if group
            else {}
        )
        entries.append(
            {
                "iteration": number,
                "group": group,
                "widths": widths,
                "predicted_ns": cost,
                "measured_ns": cost * 1.01,
                "holdout_accuracy": accuracy,
                "proposals": [*others, chosen] if group else [],
            }
        )
    return {"seed": 0, "driver": driver, "original_widths": groups, "iterations": entries}


def layers(share: float) -> list[dict[str, Any]]:
    return [
        {
            "workload": f"{kind} 32->{int(64 * share)} 16x16 k3x3 s1 relu",
            "latency_ns": 1e4 * (index + 1) * (share if index % 2 else 0.9),
        }
        for index, kind in enumerate(LAYERS)
    ]


def ablations(generator: random.Random) -> dict[str, Any]:
    settings = [("short-term steps", "0"), ("short-term steps", "20"), ("selection rule", "ratio"), ("metric", "MACs")]
    return {
        "rows": [
            {
                "ablation": ablation,
                "setting": setting,
                "seed": seed,
                "iterations": 8,
                "latency_ns": 5e5 * generator.uniform(0.95, 1.05),
                "macs": 6e6,
                "holdout_accuracy": 0.92,
                "test_accuracy": 0.918,
            }
            for ablation, setting in settings
            for seed in (0, 1)
        ]
    }


def fidelity(generator: random.Random) -> dict[str, Any]:
    return {
        "networks": [
            {
                "board": "Raspberry Pi 4 Model B",
                "core": "cortex-a72-rpi4",
                "network": network,
                "dtype": "float32",
                "published_ns": latency,
                "simulated_ns": latency * (1 + generator.gauss(0, 0.05)),
            }
            for network, latency in (("mobilenet_v1", 1.2e8), ("mobilenet_v2", 9.4e7))
        ]
    }
