"""`netadapt platforms ...`: devices to measure on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from netadapt.cli.command import command
from netadapt.cli.options import AsJson, PlatformName

app = typer.Typer(help="Devices to measure on.", no_args_is_help=True)


@command(app, "list")
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


@command(app, "show")
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


@command(app, "add")
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


@command(app, "remove")
def platforms_remove(name: str) -> None:
    """Remove a platform of your own. What was measured on it stays in the table."""
    from netadapt.measure.own_platform import remove_platform
    from netadapt.measure.platform import list_platforms

    typer.echo(f"{remove_platform(name)} is removed")
    if name in list_platforms():
        typer.echo(f"{name} is now the platform of that name that comes with netadapt")


@command(app, "check")
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


@command(app, "setup")
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
