"""The verbs and their options."""

from __future__ import annotations

import importlib
import inspect
import sys
import typing
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from importlib.metadata import version
from typing import Annotated, Any

import typer

from secateur.cli import asked
from secateur.cli.ending import Ending

VERBS: dict[str, type] = {
    "inspect": asked.Inspect,
    "score": asked.Score,
    "prune": asked.Prune,
    "verify": asked.Verify,
    "measure": asked.Measure,
    "pack": asked.Pack,
    "unpack": asked.Unpack,
    "export": asked.Export,
    "bench": asked.Bench,
    "train": asked.Train,
    "methods": asked.Methods,
}

app = typer.Typer(
    name="secateur",
    help="Prune PyTorch networks until they fit a budget that was measured, and prove it.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line and leave with its exit code."""
    app()


def _version(asked_for: bool) -> None:
    if asked_for:
        typer.echo(version("secateur"))
        raise typer.Exit


@app.callback()
def _face(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Say it and leave.")
    ] = False,
) -> None:
    pass


def _command(name: str, kind: type) -> Callable[..., None]:
    """A function whose parameters are the fields of `kind`, as typer wants to see them."""

    def command(**given: Any) -> None:
        with Ending():
            # what the user's own code prints must not get between the lines of a document
            with redirect_stdout(sys.stderr) if given["json"] else nullcontext():
                code: int = _load(name)(kind(**given))
            sys.stdout.flush()
        raise typer.Exit(code)

    hints = typing.get_type_hints(kind, include_extras=True)
    fields = inspect.signature(kind).parameters.values()
    shown = [field.replace(annotation=hints[field.name]) for field in fields]
    command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    command.__annotations__ = hints
    command.__doc__ = inspect.getdoc(kind)
    return command


def _load(name: str) -> Callable[[Any], int]:
    """The verb's own code, and torch with it: loaded only now, so that `--help` need not wait."""
    run: Callable[[Any], int] = importlib.import_module(f"secateur.cli.verbs.{name}").run
    return run


for _name, _kind in VERBS.items():
    app.command(_name)(_command(_name, _kind))
