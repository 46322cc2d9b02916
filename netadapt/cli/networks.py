"""The commands that train, judge and export a network: `netadapt export`, `train` and `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netadapt.cli.command import command
from netadapt.cli.options import (
    AsJson,
    Channels,
    Classes,
    Data,
    DeviceOption,
    Flip,
    Mean,
    Network,
    Precision,
    PreprocessingPlace,
    Seed,
    Std,
    Weights,
)
from netadapt.wording import counted

app = typer.Typer()


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
    """Evaluate a network on a data set."""
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
