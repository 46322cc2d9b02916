"""The command line. Commands only: each reads its arguments, calls the package and shows what came back."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

import netadapt
from netadapt.errors import NetAdaptError
from netadapt.one_line import OneLineErrors
from netadapt.standard_output import only_results
from netadapt.wording import counted

if TYPE_CHECKING:
    from netadapt.lut.predictor import Predictor
    from netadapt.progress import LiveProgress

app = typer.Typer(
    name="netadapt",
    cls=OneLineErrors,
    help="Shrink a pre-trained CNN to what a device can afford, guided by measured costs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
platforms_app = typer.Typer(help="Devices to measure on.", no_args_is_help=True)
lut_app = typer.Typer(help="The look-up table of measured layers.", no_args_is_help=True)
data_app = typer.Typer(help="Data sets.", no_args_is_help=True)
simulator_app = typer.Typer(help="The simulated cores.", no_args_is_help=True)
results_app = typer.Typer(help="Results of benchmark cases.", no_args_is_help=True)
app.add_typer(platforms_app, name="platforms")
app.add_typer(lut_app, name="lut")
app.add_typer(data_app, name="data")
app.add_typer(simulator_app, name="simulator")
app.add_typer(results_app, name="results")

EXIT_ERROR = 2
#: The adapted network costs more than a budget allows: measured, or counted.
EXIT_ABOVE_BUDGET = 3
#: Results that should not be published, or that are worse than before.
EXIT_BAD_RESULTS = 1
EXIT_INTERRUPTED = 130

P = ParamSpec("P")


def command(target: typer.Typer, name: str | None = None) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Make a function a command whose errors are told in one line, with exit code 2."""

    def register(function: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                with only_results() if kwargs.get("as_json") else nullcontext():
                    function(*args, **kwargs)
            except NetAdaptError as error:
                typer.echo(f"netadapt: {error}", err=True)
                raise typer.Exit(EXIT_ERROR) from None
            except KeyboardInterrupt:
                hint = "; go on with --resume" if "resume" in kwargs else ""
                typer.echo(f"netadapt: interrupted; what was finished is kept{hint}", err=True)
                raise typer.Exit(EXIT_INTERRUPTED) from None

        return target.command(name or function.__name__.replace("_", "-"))(guarded)

    return register


Network = Annotated[
    str, typer.Argument(help="NAME[:WIDTH][@SIZE] such as mobilenet_v1:0.5@32, or your own package.module:factory")
]
PlatformName = Annotated[
    str, typer.Argument(help="Name of a platform (see `netadapt platforms list`), or definition file")
]
PlatformOption = Annotated[str, typer.Option("--platform", "-p", help="Platform name or definition file")]
Data = Annotated[
    str, typer.Option(help="fashion-mnist-mini, fashion-mnist, cifar10:PATH or folder:PATH[,resize=crop|pad|squash]")
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Mean the network was trained with, if not the data set's own: one number a channel, of 0..1 pixels"
    ),
]
Std = Annotated[str | None, typer.Option(help="Standard deviation likewise, such as 0.229,0.224,0.225")]
Flip = Annotated[
    bool, typer.Option("--flip/--no-flip", help="Mirror half of the training images; not for digits, text, signs")
]
PreprocessingPlace = Annotated[
    str,
    typer.Option(help="Who normalises the input of exported models: caller, or in-model (they take pixels of 0..255)"),
]
Weights = Annotated[Path | None, typer.Option(help="safetensors file with the network's weights")]
TableFile = Annotated[Path | None, typer.Option("--table", help="Look-up table; by default in the user's cache folder")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of everything random")]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Where to train: cpu, cuda, cuda:INDEX, or auto for CUDA where torch sees it")
]
Classes = Annotated[int | None, typer.Option(help="Classes of a zoo network (default 1000)")]
Channels = Annotated[int | None, typer.Option(help="Input channels of a zoo network: 1 or 3 (default 3)")]
Precision = Annotated[
    str, typer.Option(help="float32 or bfloat16; the latter is faster where layers are large and the CPU knows it")
]
NoCorrection = Annotated[
    bool, typer.Option("--no-correction", help="Predict from the table alone, without whole-network measurements")
]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit", is_eager=True)] = False,
) -> None:
    """Shrink a pre-trained CNN to what a device can afford, guided by measured costs."""
    if version:
        typer.echo(netadapt.__version__)
        raise typer.Exit


@command(app)
def adapt(
    network: Network,
    data: Data,
    budget: Annotated[list[str], typer.Option(help="latency=0.6x, latency=20ms, macs=3M, params=0.5x; repeatable")],
    out: Annotated[Path, typer.Option(help="Run folder")],
    platform: PlatformOption = "ort-local",
    weights: Weights = None,
    selection: Annotated[str, typer.Option(help="accuracy (the paper) or ratio")] = "accuracy",
    strategy: Annotated[str, typer.Option(help="fast, or paper (Algorithm 1 as published)")] = "fast",
    iterations: Annotated[int, typer.Option(help="Steps in which the budget is reached")] = 20,
    decay: Annotated[float, typer.Option(help="Each step is this times the one before")] = 0.96,
    initial_reduction: Annotated[
        float | None, typer.Option(help="First step as a share of the original cost, instead of --iterations deciding")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="Batches of each proposal's short-term fine-tune")] = 100,
    long_steps: Annotated[int, typer.Option(min=0, help="Batches of the final long-term fine-tune")] = 1000,
    lr: Annotated[float, typer.Option(help="Highest learning rate of the short-term fine-tune")] = 0.005,
    long_lr: Annotated[float, typer.Option(help="Highest learning rate of the long-term fine-tune")] = 0.005,
    batch: Annotated[int, typer.Option(min=2, help="Images in a batch")] = 128,
    workers: Annotated[
        str, typer.Option(help="Processes that make proposals, or ray, ray:NUMBER, ray://HOST:PORT")
    ] = str(os.cpu_count() or 1),
    device: DeviceOption = "cpu",
    precision: Precision = "float32",
    flip: Flip = True,
    mean: Mean = None,
    std: Std = None,
    preprocessing: PreprocessingPlace = "caller",
    seed: Seed = 0,
    no_correction: NoCorrection = False,
    table: TableFile = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, if there is one")] = False,
    as_json: AsJson = False,
) -> None:
    """Adapt a pre-trained network to a budget, and measure what that gained; exit code 3 if it is above the budget."""
    from netadapt import arguments, terminal
    from netadapt.measure.platform import load_platform
    from netadapt.network.preprocessing import is_in_model, note_for_deployment
    from netadapt.search.budget import Pace, parse_budgets, require_metrics
    from netadapt.search.executors.workers import Workers
    from netadapt.search.journal import require_free
    from netadapt.search.selection import selection_rule
    from netadapt.search.strategy import find_strategy
    from netadapt.train import check_dataset
    from netadapt.train.data.normalisation import parse_normalisation

    # What can be wrong without loading anything comes first, torch among it.
    require_free(out, resume)
    limited = [parsed.metric for parsed in parse_budgets(budget)]
    require_metrics(load_platform(platform), limited)
    selection_rule(selection)
    way = find_strategy(strategy)
    pace = Pace(iterations, decay, initial_reduction)
    for rate in (lr, long_lr):
        arguments.check_training(rate, batch, precision, device)
    arguments.check_network(network, weights)
    check_dataset(data)
    is_in_model(preprocessing)
    normalisation = parse_normalisation(mean, std)
    arguments.check_run_folder(out)
    arguments.check_table(table)
    Workers.parse(workers).require()

    from netadapt.api import adapt as adapt_network
    from netadapt.by_name import load_network_and_data
    from netadapt.progress import live_progress
    from netadapt.search.trainer import Training
    from netadapt.train import Augmentation, TrainingOptions
    from netadapt.train.device import training_device

    training_device(device)
    training = TrainingOptions(lr, batch, augmentation=Augmentation(flip=flip), precision=precision)  # type: ignore[arg-type]
    short_term, long_term = Training(steps, training), Training(long_steps, replace(training, lr=long_lr))
    resolved, dataset = load_network_and_data(network, data, weights, normalisation)
    with live_progress() as progress:
        if not resolved.pretrained:
            progress.note(f"{network} has no bundled weights for {data} and none were given: it starts untrained")
        adapted = adapt_network(
            resolved.module,
            resolved.example_input,
            dataset,
            budget=budget,
            out=out,
            platform=platform,
            selection=selection,  # type: ignore[arg-type]
            strategy=way,
            pace=pace,
            short_term=short_term,
            long_term=long_term,
            workers=workers,
            device=device,
            seed=seed,
            correction=not no_correction,
            preprocessing=preprocessing,  # type: ignore[arg-type]
            table=table,
            resume=resume,
            name=resolved.name,
            observer=progress,
        )
    if as_json:
        terminal.print_json(adapted.summary)
    else:
        terminal.print_summary(adapted.summary)
        terminal.say(f"adapted network: {adapted.onnx}")
        if facts := adapted.summary.get("preprocessing"):  # a run that an older version finished has none
            typer.echo(note_for_deployment(facts))
    if adapted.summary["verdict"] == "not met":
        raise typer.Exit(EXIT_ABOVE_BUDGET)


@command(app)
def measure(
    models: Annotated[list[str], typer.Argument(help="One ONNX file or network, or two to compare")],
    platform: Annotated[list[str] | None, typer.Option("--platform", "-p", help="One platform, or two")] = None,
    weights: Weights = None,
    classes: Classes = None,
    channels: Channels = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show where the time goes, layer by layer")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model; two models, or one on two platforms, are compared interleaved."""
    from netadapt import arguments, terminal
    from netadapt.measure.compare import compare_models
    from netadapt.measure.device import open_device
    from netadapt.measure.platform import load_platform

    names = platform or ["ort-local"]
    if len(models) > 2 or len(names) > 2 or len(models) + len(names) > 3:
        raise typer.BadParameter("give one or two models on one platform, or one model on two platforms")
    if profile and len(models) + len(names) > 2:
        raise typer.BadParameter("--profile is of one model on one platform")
    for name in names:
        load_platform(name)
    arguments.check_models(models, weights, classes, channels)
    from netadapt.progress import live_progress

    files = [_model(model, weights, classes, channels) for model in models]
    with live_progress() as progress, open_device(names[0], progress.waiting, terminal.tell_fallback) as first:
        progress.stage(f"measuring {' and '.join(models)}")
        if len(models) == len(names) == 1:
            costs, details = first.costs(files[0]), first.details(files[0])
            layers = first.profile(files[0]) if profile else []
            progress.finished({})
            terminal.print_measurements(models[0], costs, details, layers, as_json)
            return
        # A board serves one client at a time, so two models on one platform are loaded by one device.
        other = (
            open_device(names[1], progress.waiting, terminal.tell_fallback) if len(names) > 1 else nullcontext(first)
        )
        with other as second:
            comparison = compare_models(first, files[0], second, files[-1])
    terminal.print_comparison((models[0], models[-1]), comparison, as_json)


@command(app)
def tune(
    model: Annotated[str, typer.Argument(help="ONNX file or network whose kernels to tune")],
    platform: PlatformOption = "tvm-local",
    trials: Annotated[int, typer.Option(min=1, help="Candidates for each kernel")] = 64,
    kernels: Annotated[int | None, typer.Option(min=1, help="Only this many, of those that take most time")] = None,
    records: Annotated[
        Path | None, typer.Option(help="File of records; by default the platform's, in the user's data folder")
    ] = None,
    weights: Weights = None,
    classes: Classes = None,
    channels: Channels = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Search for kernels that are faster than ours on a platform. Can be stopped and started again."""
    from netadapt import arguments, terminal
    from netadapt.measure.model_file import model_bytes
    from netadapt.measure.platform import load_platform
    from netadapt.measure.tvm.compile import require_tvm
    from netadapt.measure.tvm.records import records_path

    loaded = load_platform(platform)
    arguments.check_models([model], weights, classes, channels)
    if records is not None:
        arguments.check_records(records)
    require_tvm()
    from netadapt.measure.tvm import tuning
    from netadapt.progress import live_progress

    named = getattr(loaded.runtime, "tuning", None) or loaded.name
    path = records or records_path(named)
    content = model_bytes(_model(model, weights, classes, channels))
    with live_progress() as progress:
        results = tuning.tune(
            content, loaded, path, name=model, trials=trials, most_kernels=kernels, seed=seed, observer=progress
        )
    terminal.print_tuning(path, loaded, results, as_json)


@command(app)
def export(
    network: Network,
    out: Annotated[Path, typer.Option(help="ONNX file to write")],
    weights: Weights = None,
    data: Annotated[
        str | None, typer.Option(help="Data set of the network: gives classes, channels and what its input has to be")
    ] = None,
    classes: Classes = None,
    channels: Channels = None,
    mean: Mean = None,
    std: Std = None,
    preprocessing: PreprocessingPlace = "caller",
) -> None:
    """Export a network to ONNX, with what its input has to be where --data, or --mean and --std, say so."""
    from netadapt import arguments
    from netadapt.network.preprocessing import is_in_model, note_for_deployment
    from netadapt.outputs import ONNX_FILE, require_output
    from netadapt.train import check_dataset
    from netadapt.train.data.normalisation import parse_normalisation

    arguments.check_network(network, weights, classes, channels)
    if data is not None:
        check_dataset(data)

    in_model, normalisation = is_in_model(preprocessing), parse_normalisation(mean, std)
    require_output(out, ONNX_FILE)

    from netadapt.exporting import export_network

    stated = export_network(
        network,
        out,
        weights=weights,
        data=data,
        classes=classes,
        channels=channels,
        normalisation=normalisation,
        in_model=in_model,
    )
    typer.echo(f"{out}: {out.stat().st_size:,} bytes")
    typer.echo(
        note_for_deployment(stated.to_json())
        if stated
        else "its input is not described; give --data, or --mean and --std"
    )


@command(app)
def train(
    network: Network,
    data: Data,
    out: Annotated[Path, typer.Option(help="safetensors file to write")],
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images")] = 20,
    lr: Annotated[float, typer.Option(help="Highest learning rate")] = 0.1,
    batch: Annotated[int, typer.Option(min=2, help="Images in a batch")] = 128,
    weight_decay: Annotated[float, typer.Option(help="L2 penalty on weights, not on biases and normalisation")] = 5e-4,
    threads: Annotated[int, typer.Option(min=1, help="More than one is faster but not reproducible bit by bit")] = 1,
    device: DeviceOption = "cpu",
    precision: Precision = "float32",
    flip: Flip = True,
    mean: Mean = None,
    std: Std = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train a network: one of the zoo from scratch, or yours from the weights that it comes with."""
    from netadapt import arguments
    from netadapt.outputs import WEIGHT_FILE, require_output
    from netadapt.train import check_dataset
    from netadapt.train.data.normalisation import parse_normalisation

    arguments.check_training(lr, batch, precision, device, weight_decay)
    arguments.check_network(network)
    check_dataset(data)
    normalisation = parse_normalisation(mean, std)
    require_output(out, WEIGHT_FILE)

    from netadapt import terminal
    from netadapt.by_name import load_untrained_network_and_data
    from netadapt.progress import live_progress
    from netadapt.train import Augmentation, TrainingOptions, train_module
    from netadapt.train.device import training_device

    device = training_device(device)
    resolved, dataset = load_untrained_network_and_data(network, data, normalisation, seed)
    terminal.tell_remarks(dataset)
    options = TrainingOptions(
        lr,
        batch,
        weight_decay=weight_decay,
        augmentation=Augmentation(flip=flip),
        schedule="onecycle",
        precision=precision,  # type: ignore[arg-type]
    )
    with live_progress() as progress:
        progress.stage(f"training {resolved.name}")
        trained = train_module(
            resolved.module,
            resolved.name,
            dataset,
            epochs=epochs,
            options=options,
            seed=seed,
            out=out,
            threads=threads,
            device=device,
            on_epoch=lambda epoch: progress.say(
                f"epoch {epoch.number} of {epochs}: loss {epoch.loss:.4f}, hold-out {epoch.holdout.score:.2%}"
            ),
            on_batch=progress.trained,
        )
    if as_json:
        terminal.print_json({"weights": str(out), "holdout": trained.holdout.totals, "test": trained.test.totals})
    else:
        typer.echo(
            f"{out}: test accuracy {trained.test.score:.2%} on {counted(trained.test.count, 'image')} of {dataset.name}"
        )


@command(app)
def evaluate(
    network: Annotated[str, typer.Argument(help="Network, or ONNX file with what its input has to be in its metadata")],
    data: Data,
    weights: Weights = None,
    split: Annotated[str, typer.Option(help="test or holdout")] = "test",
    mean: Mean = None,
    std: Std = None,
    as_json: AsJson = False,
) -> None:
    """Tell how good a network is on a data set."""
    from netadapt import arguments, terminal
    from netadapt.errors import UnknownNameError
    from netadapt.train import check_dataset
    from netadapt.train.data.normalisation import parse_normalisation

    if split not in ("test", "holdout"):
        raise UnknownNameError("split", split, ("test", "holdout"))
    arguments.check_models([network], weights, None, None)
    check_dataset(data)
    normalisation = parse_normalisation(mean, std)

    from netadapt.by_name import load_judged_and_data
    from netadapt.progress import live_progress
    from netadapt.train import Classification
    from netadapt.train import evaluate as evaluate_module
    from netadapt.train.chance import near_chance

    judged, dataset = load_judged_and_data(network, data, weights, normalisation)
    terminal.tell_remarks(dataset)
    images = getattr(dataset, split)
    with live_progress() as progress:
        progress.stage(f"evaluating {judged.name}")
        result = evaluate_module(judged.module, Classification(), images, dataset)
    if judged.pretrained and (doubt := near_chance(result, images, dataset)):
        terminal.note(doubt)
    if as_json:
        terminal.print_json({"network": judged.name, "data": dataset.name, "split": split, **result.totals})
    else:
        trained = "" if judged.pretrained else " (untrained: no weights were given)"
        typer.echo(f"{judged.name}: {split} accuracy {result.score:.2%}, {counted(result.count, 'image')}{trained}")


@command(platforms_app, "list")
def platforms_list(as_json: AsJson = False) -> None:
    """List all platforms."""
    from rich.markup import escape

    from netadapt import terminal
    from netadapt.measure.platform import list_platforms, load_platform

    platforms = [load_platform(name) for name in list_platforms()]
    if as_json:
        terminal.print_json([{"name": p.name, "tier": p.tier, "title": p.title} for p in platforms])
    else:
        rows = [[p.name, p.tier, escape(p.title)] for p in platforms]
        terminal.print_table("Platforms", ["name", "tier", "title"], rows)


@command(platforms_app, "show")
def platforms_show(platform: PlatformName, as_json: AsJson = False) -> None:
    """Show a platform: what it is and what its numbers may be used for."""
    from netadapt import terminal
    from netadapt.measure.device import fingerprint
    from netadapt.measure.platform import load_platform

    loaded = load_platform(platform)
    facts = {**loaded.model_dump(mode="json"), "fingerprint": fingerprint(loaded)}
    if as_json:
        terminal.print_json(facts)
    else:
        terminal.print_facts(facts)


@command(platforms_app, "add")
def platforms_add(
    name: str,
    like: Annotated[
        str, typer.Option(help="Platform to start from, such as linux-arm64-tvm, linux-x86-tvm, linux-ort or rpi4-tvm")
    ],
    board: Annotated[str, typer.Option(help='What the board is: "Raspberry Pi 5, 8 GB"')],
    server: Annotated[str | None, typer.Option(help="HOST:PORT of netadapt-device on the board")] = None,
    tracker: Annotated[str | None, typer.Option(help="HOST:PORT of a tracker that boards register at")] = None,
    key: Annotated[str | None, typer.Option(help="What the boards call themselves at the tracker")] = None,
    cpu: Annotated[str | None, typer.Option(help="LLVM's name of the core, such as cortex-a76")] = None,
) -> None:
    """Define a platform for a board of your own."""
    from netadapt.measure.own_platform import add_platform

    if (server is None) == (tracker is None):
        raise typer.BadParameter("give --server of one board, or --tracker and --key of any number")
    rpc = {"server": server, "tracker": tracker, "key": key, "board": board}
    changes = {
        "": {"title": f"{board} (own definition, like {like})"},
        "rpc": {field: value for field, value in rpc.items() if value is not None},
    }
    path = add_platform(name, like, changes | ({"runtime.target": {"mcpu": cpu}} if cpu else {}))
    typer.echo(f"{path} is written; try: netadapt platforms check {name}")


@command(platforms_app, "remove")
def platforms_remove(name: str) -> None:
    """Remove a platform of your own. What was measured on it stays in the table."""
    from netadapt.measure.own_platform import remove_platform
    from netadapt.measure.platform import list_platforms

    typer.echo(f"{remove_platform(name)} is removed")
    if name in list_platforms():
        typer.echo(f"{name} is now the platform of that name that comes with netadapt")


@command(platforms_app, "check")
def platforms_check(platform: PlatformName, as_json: AsJson = False) -> None:
    """Check that a platform is ready to measure; exit code 1 if it is not."""
    from rich.markup import escape

    from netadapt import terminal
    from netadapt.measure.device import check_platform
    from netadapt.measure.platform import load_platform

    checks = check_platform(load_platform(platform))
    if as_json:
        terminal.print_json([asdict(check) for check in checks])
    else:
        rows = [[check.what, "ok" if check.ok else "missing", escape(check.detail)] for check in checks]
        terminal.print_table(platform, ["what", "state", "detail"], rows)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@command(platforms_app, "setup")
def platforms_setup(platform: PlatformName) -> None:
    """Get what a platform needs, into the user's cache folder. Can be stopped and started again."""
    from netadapt.measure.platform import load_platform
    from netadapt.measure.simulator.install import installed, set_up

    loaded = load_platform(platform)
    if loaded.transport != "qemu" and not loaded.emulated:
        where = "on boards of yours" if loaded.tier == "device" else "on this machine"
        typer.echo(f"{loaded.name} measures {where}; there is nothing to set up")
        return
    if present := installed():
        typer.echo(f"{loaded.name} is set up already, in {present.folder}")
        return
    from netadapt.progress import live_progress

    with live_progress() as progress:
        present = set_up(progress.stage)
    typer.echo(f"{loaded.name} is set up, in {present.folder}")


@command(lut_app, "build")
def lut_build(
    network: Network,
    platform: PlatformOption = "ort-local",
    points: Annotated[int, typer.Option(min=1, help="Widths of each channel group")] = 6,
    classes: Classes = None,
    channels: Channels = None,
    table: TableFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure a network's layers ahead, on a grid of widths. Can be stopped and started again."""
    _check_predictor(network, [platform], table, classes, channels)
    from netadapt import terminal
    from netadapt.lut.ahead import workloads_ahead

    with _progress_and_predictor(network, platform, table, classes, channels) as (progress, predictor):
        progress.stage("measuring layers")
        wanted = workloads_ahead(predictor.network.plan, predictor.allowed, points)
        path = predictor.table.path
        report = predictor.fill(wanted)
    if as_json:
        terminal.print_json(asdict(report))
    else:
        typer.echo(
            f"{path}: {counted(report.requested, 'workload')}, {report.present} were there, "
            f"{report.measured} measured, {report.contended} of them on a busy machine"
        )


@command(lut_app, "show")
def lut_show(
    network: Annotated[str | None, typer.Argument(help="Show the prediction of this network, layer by layer")] = None,
    platform: PlatformOption = "ort-local",
    classes: Classes = None,
    channels: Channels = None,
    no_correction: NoCorrection = False,
    measure_missing: Annotated[bool, typer.Option("--measure", help="Measure what the table lacks for it")] = False,
    table: TableFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in the table, or a network's prediction layer by layer."""
    from netadapt import arguments, terminal
    from netadapt.lut.store import Table

    if network is None:
        arguments.check_table(table, must_exist=True)
        with Table.open(table) as opened:
            terminal.print_entries(opened.path, opened.entries(), as_json)
        return
    _check_predictor(network, [platform], table, classes, channels)
    if measure_missing:
        _show_measured_layers(network, platform, table, classes, channels, not no_correction, as_json)
        return
    arguments.check_table(table, must_exist=True)
    from netadapt.by_name import analysed
    from netadapt.lut.stored import MissingEntriesError, stored_prediction
    from netadapt.measure.platform import load_platform
    from netadapt.progress import live_progress

    loaded = load_platform(platform)
    with live_progress() as progress, Table.open(table) as opened:
        found = analysed(network, classes, channels, progress)
        try:
            prediction = stored_prediction(found, loaded, opened, not no_correction)
        except MissingEntriesError as error:
            raise MissingEntriesError(
                f"{error} for {network} on {loaded.name}; add --measure to measure them"
            ) from None
    terminal.print_layers(network, loaded, found.plan.unknown, prediction, as_json)


@command(lut_app, "compare")
def lut_compare(
    network: Network,
    platform: Annotated[list[str], typer.Option("--platform", "-p", help="Two platforms of one tier, A and B")],
    classes: Classes = None,
    channels: Channels = None,
    table: TableFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare a network's layers on two platforms, or in two runtimes of one, and the whole network."""
    if len(platform) != 2:
        raise typer.BadParameter("give two platforms: -p A -p B")
    first, second = platform
    _check_predictor(network, platform, table, classes, channels)
    from netadapt import terminal
    from netadapt.lut.comparison import compare_layers
    from netadapt.progress import live_progress

    with (
        live_progress() as progress,
        _predictor(network, first, table, classes, channels, progress) as a,
        _predictor(network, second, table, classes, channels, progress) as b,
    ):
        progress.stage("comparing")
        comparison = compare_layers(a, b)
    terminal.print_layer_comparison(network, comparison, as_json)


@command(lut_app, "export")
def lut_export(
    file: Annotated[Path, typer.Argument(help="JSON file to write")],
    platform: Annotated[str | None, typer.Option("--platform", "-p", help="Only this platform's entries")] = None,
    table: TableFile = None,
) -> None:
    """Write the table to a canonical JSON file."""
    from netadapt import arguments
    from netadapt.lut.store import Table
    from netadapt.measure.device import fingerprint
    from netadapt.measure.platform import load_platform
    from netadapt.outputs import TABLE_FILE, require_output

    require_output(file, TABLE_FILE)
    arguments.check_table(table, must_exist=True)
    only = fingerprint(load_platform(platform)) if platform else None
    with Table.open(table) as opened:
        typer.echo(f"{file}: {opened.export_json(file, only)} entries")


@command(lut_app, "import")
def lut_import(
    file: Annotated[Path, typer.Argument(help="JSON file that `lut export` wrote")], table: TableFile = None
) -> None:
    """Take the entries of an exported table into the table."""
    from netadapt.lut.store import Table

    with Table.open(table) as opened:
        merge = opened.import_json(file)
    typer.echo(f"{opened.path}: {merge.added} entries added, {merge.replaced} replaced, {merge.kept} kept as they were")


@command(lut_app, "accuracy")
def lut_accuracy(
    network: Network,
    platform: PlatformOption = "ort-local",
    networks: Annotated[int, typer.Option(min=2, help="Random-width networks to predict and measure")] = 50,
    seed: Seed = 0,
    classes: Classes = None,
    channels: Channels = None,
    no_correction: NoCorrection = False,
    table: TableFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare predicted and measured latency on random-width networks."""
    _check_predictor(network, [platform], table, classes, channels)
    from netadapt import terminal
    from netadapt.lut.accuracy import assess

    with _progress_and_predictor(network, platform, table, classes, channels) as (progress, predictor):
        progress.expect({"measuring random-width networks": None})
        progress.stage("calibrating")
        correction = predictor.calibrate(not no_correction)
        progress.stage("measuring random-width networks")
        accuracy = assess(predictor, networks, seed)
    terminal.print_accuracy(network, predictor.device, correction, accuracy, as_json)


@command(data_app, "fetch")
def data_fetch(
    source: Annotated[Path | None, typer.Option("--from", help="A folder that has the files already")] = None,
    to: Annotated[Path | None, typer.Option(help="Where to put them; by default the user's data folder")] = None,
) -> None:
    """Fetch the full Fashion-MNIST: from a folder, the Debian package or its public address; checksums verified."""
    from netadapt.progress import live_progress
    from netadapt.train import fetch_fashion_mnist
    from netadapt.train.data.fashion_mnist import user_folder

    with live_progress() as progress:
        folder = fetch_fashion_mnist(source, to or user_folder(), progress.stage, progress.counted)
    typer.echo(f"fashion-mnist is in {folder}")


@command(simulator_app)
def fidelity(
    published: Annotated[Path, typer.Option("--csv", help="Published latencies: board, core, mhz, dtype, networks")],
    as_json: AsJson = False,
) -> None:
    """Compare simulated with published latencies of whole networks on real boards."""
    from netadapt import terminal
    from netadapt.measure.simulator.fidelity import assess, read_published

    boards = read_published(published)
    from netadapt.progress import live_progress

    with live_progress() as progress:
        progress.stage("simulating whole networks")
        result = assess(boards, lambda network: _onnx_of(network, None, None, None), progress.measured)
    terminal.print_fidelity(result, as_json)


@command(results_app, "check")
def results_check(
    paths: Annotated[list[Path], typer.Argument(help="Runs, folders of platforms, or a folder of such folders")],
    as_json: AsJson = False,
) -> None:
    """Check results before they are published; exit code 1 for an error, 2 if one cannot be read."""
    from netadapt.results.check import check
    from netadapt.results.show import print_check

    runs, findings = check(paths)
    print_check(runs, findings, as_json)
    severities = {finding.severity for finding in findings}
    if severities & {"unreadable", "error"}:
        raise typer.Exit(EXIT_ERROR if "unreadable" in severities else EXIT_BAD_RESULTS)


@command(results_app, "compare")
def results_compare(
    a: Annotated[Path, typer.Argument(help="The older run: a file, or a platform's folder, whose newest is taken")],
    b: Annotated[Path, typer.Argument(help="The newer run, likewise")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 also for what is NOT COMPARABLE")] = False,
    clock: Annotated[
        str, typer.Option(help="Of two folders: compare what this clock read, platform or host")
    ] = "platform",
    as_json: AsJson = False,
) -> None:
    """Tell how B differs from A, figure by figure; exit code 1 if one is SLOWER or WORSE."""
    from netadapt.errors import UnknownNameError
    from netadapt.results.compare import compare_results, judge
    from netadapt.results.files import pick_pair, read_result
    from netadapt.results.show import print_comparison

    if clock not in ("platform", "host"):
        raise UnknownNameError("clock", clock, ("platform", "host"))
    first, second = pick_pair(a, b, clock)  # type: ignore[arg-type]
    comparison = compare_results(read_result(first), read_result(second))
    print_comparison(first, second, comparison, as_json)
    if not judge(comparison, strict).passed:
        raise typer.Exit(EXIT_BAD_RESULTS)


@command(results_app, "list")
def results_list(
    path: Annotated[Path, typer.Argument(help="A run, a platform's folder, or a folder of such folders")] = Path(
        "results"
    ),
    as_json: AsJson = False,
) -> None:
    """List runs with platform, tier, clock, profile and cases."""
    from netadapt.results.files import find_results
    from netadapt.results.show import print_runs

    print_runs(find_results(path), as_json)


@command(app)
def report(
    source: Annotated[Path, typer.Argument(help="A run folder of adapt, a run of cases, or a folder of those")],
    out: Annotated[Path | None, typer.Option(help="HTML file to write; by default in or beside SOURCE")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for the figures as SVG files, too")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a report as one HTML file that needs no network."""
    from netadapt import terminal
    from netadapt.outputs import REPORT, require_output
    from netadapt.report.report import write_pictures, write_report

    page = out or (source / "report.html" if source.is_dir() else source.with_suffix(".html"))
    if source.exists():
        require_output(page, REPORT)
    written = write_report(source, page)
    drawn = write_pictures(source, pictures) if pictures else []
    if as_json:
        terminal.print_json({"report": str(written), "pictures": [str(path) for path in drawn]})
        return
    typer.echo(f"{written}: {written.stat().st_size:,} bytes; open it in a browser")
    for path in drawn:
        typer.echo(str(path))


def _model(model: str, weights: Path | None, classes: int | None, channels: int | None) -> Path | bytes:
    """The ONNX file of that name, or the exported network."""
    from netadapt.arguments import names_file

    if names_file(model):
        return Path(model)
    return _onnx_of(model, weights, classes, channels)


def _onnx_of(network: str, weights: Path | None, classes: int | None, channels: int | None) -> bytes:
    from netadapt import zoo
    from netadapt.network.export import to_onnx

    resolved = zoo.resolve(network, classes=classes, in_channels=channels, weights=weights)
    return to_onnx(resolved.module, resolved.example_input)


def _check_predictor(
    network: str, platforms: list[str], table: Path | None, classes: int | None, channels: int | None
) -> None:
    from netadapt import arguments
    from netadapt.measure.platform import load_platform
    from netadapt.search.budget import require_metrics

    for platform in platforms:
        require_metrics(load_platform(platform), ["latency"])
    arguments.check_network(network, None, classes, channels)
    arguments.check_table(table)


def _show_measured_layers(
    network: str,
    platform: str,
    table: Path | None,
    classes: int | None,
    channels: int | None,
    corrected: bool,
    as_json: bool,
) -> None:
    from netadapt import terminal
    from netadapt.lut.stored import prediction_of

    with _progress_and_predictor(network, platform, table, classes, channels) as (progress, predictor):
        progress.stage("measuring layers and networks")
        correction = predictor.calibrate(corrected)
        prediction = prediction_of(predictor.estimator, predictor.network, correction)
    terminal.print_layers(network, predictor.device.platform, predictor.network.plan.unknown, prediction, as_json)


@contextmanager
def _progress_and_predictor(
    network: str, platform: str, table: Path | None, classes: int | None, channels: int | None
) -> Iterator[tuple[LiveProgress, Predictor]]:
    from netadapt.progress import live_progress

    with live_progress() as progress, _predictor(network, platform, table, classes, channels, progress) as predictor:
        yield progress, predictor


def _predictor(
    network: str,
    platform: str,
    table: Path | None,
    classes: int | None,
    channels: int | None,
    progress: LiveProgress,
) -> AbstractContextManager[Predictor]:
    from netadapt import terminal
    from netadapt.by_name import open_predictor

    return open_predictor(network, platform, table, classes, channels, terminal.tell_fallback, progress)


def main() -> None:
    """Entry point of the `netadapt` command."""
    sys.exit(app())
