"""The command line. Commands import what they need when they run, so that help and mistakes are answered at once."""

from __future__ import annotations

import atexit
import json
import os
import re
import sys
from typing import Annotated

from launcher.requests import listen_early

listen_early()  # before anything that takes time

import typer  # noqa: E402

from trainer.errors import DONE, ConfigError, OstinatoError  # noqa: E402

PLACE = re.compile(r"^(command line|[^:\s][^:]*:\d+): ")
COMPLETION = "_OSTINATO_COMPLETE"
INTERRUPTED = 130  # the shell's word for SIGINT, before there is a run that could be stopped

# Plain help: rich's markup costs more than the whole answer. Completion without its two options: `_OSTINATO_COMPLETE=source_bash ostinato`.
app = typer.Typer(
    name="ostinato",
    help="Train PyTorch models: one config, the same bits on any number of workers, through kills and resumes.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="The YAML file that says everything about the run.")]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Overrides, e.g. train.epochs=3 optimizer.lr=0.05.", show_default=False),
]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"ostinato {version('ostinato')}")
        except PackageNotFoundError:
            print("ostinato (not installed)")
        raise typer.Exit(DONE)


@app.callback()
def _ostinato(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Options that stand before a command."""


@app.command()
def train(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    nproc_per_node: Annotated[
        str, typer.Option("--nproc-per-node", metavar="N|auto", help="Workers on this machine; auto: one for each GPU, without GPUs one.")
    ] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an existing run folder aside and start over.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be started; create nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print it as JSON.")] = False,
) -> None:
    """Run a config on this machine. The same command goes on with a run that was stopped."""
    from launcher import local

    code = local.train(config, overrides or [], nproc_per_node=nproc_per_node, fresh=fresh, dry_run=dry_run, as_json=as_json)
    raise typer.Exit(code)


@app.command(
    epilog="""Examples:

\b
  ostinato inspect runs/digits
  ostinato inspect runs/digits --checkpoint best
  ostinato inspect data configs/digits.yaml
  ostinato inspect data configs/digits.yaml data.valid_fraction=0.2 data.valid=null --json
  ostinato inspect data configs/digits.yaml --tensorboard runs/look"""
)
def inspect(
    what: Annotated[list[str], typer.Argument(metavar="RUN | data CONFIG [KEY=VALUE]...", help="A run folder; or 'data' and a config.")],
    checkpoint: Annotated[str | None, typer.Option("--checkpoint", metavar="NAME", help="Say what is in this one.")] = None,
    tensorboard: Annotated[
        str | None, typer.Option("--tensorboard", metavar="DIR", help="With data: put the picture there as well.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """List a run's checkpoints, each one verified, or say what a config's data sets are.

    Of a run: exit code 3 if a checkpoint cannot be used. Of data: sizes, shapes, classes, samples that cannot be read (exit code 4), and
    the first training images as a picture.
    """
    if what[0] == "data" and len(what) > 1:
        if checkpoint is not None:
            raise ConfigError("command line: --checkpoint: it belongs to a run, and this is 'inspect data'; leave it out")
        from launcher.look import look

        raise typer.Exit(look(what[1], what[2:], as_json=as_json, tensorboard=tensorboard))
    if tensorboard is not None:
        raise ConfigError("command line: --tensorboard: it belongs to 'inspect data CONFIG'; leave it out")
    if len(what) > 1:
        raise ConfigError(f"command line: {what[1]}: one run at a time; a config's data sets are shown by 'inspect data CONFIG'")
    from launcher.inspect import inspect

    raise typer.Exit(inspect(what[0], checkpoint=checkpoint, as_json=as_json))


@app.command(
    epilog="""Examples:

\b
  ostinato summary configs/digits.yaml
  ostinato summary configs/cifar10.yaml model.target=resnet50 data.batch_size=32
  ostinato summary configs/digits.yaml 'freeze=[{match: features.*}]' --json"""
)
def summary(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Print a config's model as a table: layers, shapes, parameters, what trains, multiplications. Nothing is trained or created."""
    from launcher.summary import summary

    raise typer.Exit(summary(config, overrides or [], as_json=as_json))


@app.command()
def schema() -> None:
    """Print the config's JSON schema, with which an editor completes and checks the YAML."""
    from trainer.config.load import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command()
def verify(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    world_sizes: Annotated[str, typer.Option("--world-sizes", metavar="N,N…", help="Numbers of workers to compare.")] = "1,2,4",
    kills: Annotated[int, typer.Option("--kills", min=0, help="SIGKILLs, each followed by a resume on another number of workers.")] = 3,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Updates of each run.")] = 60,
    seed: Annotated[int, typer.Option("--seed", help="Chooses who is killed, and when.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Prove that a config gives the same bits on any number of workers and through kills; exit code 1 if it does not."""
    from launcher import verify

    code = verify.verify(config, overrides or [], world_sizes=world_sizes, kills=kills, steps=steps, seed=seed, as_json=as_json)
    raise typer.Exit(code)


@app.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    two: Annotated[str, typer.Argument(metavar="RUN", help="The other one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the differences as JSON.")] = False,
) -> None:
    """Say where and why two runs part: config, code, environment, data, and the first step that differs; exit code 1 if one does."""
    from launcher import compare

    raise typer.Exit(compare.diff(one, two, as_json=as_json))


def complaint(problem: str) -> str:
    """A problem as it is printed: with our name in front, unless it says where it is."""
    return problem if PLACE.match(problem) else f"ostinato: {problem}"


def main() -> int:
    """The ``ostinato`` command; returns its exit code."""
    code = answer()
    if "torch" in sys.modules:
        # Taking torch apart module by module costs 0.5 s and gains nothing. What has to be tidied up has been told to atexit.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def answer() -> int:
    """Carry out the command in ``sys.argv``, and return its exit code."""
    if COMPLETION in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
    try:
        app(prog_name="ostinato")
    except OstinatoError as fault:
        for line in str(fault).splitlines():
            print(complaint(line), file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt:
        print("ostinato: interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else DONE
    return DONE


if __name__ == "__main__":
    raise SystemExit(main())
