"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
