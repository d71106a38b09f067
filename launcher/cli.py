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

from launcher import completion  # noqa: E402
from trainer.errors import DONE, ConfigError, OstinatoError  # noqa: E402

PLACE = re.compile(r"^(command line|[^:\s][^:]*:\d+): ")
COMPLETION = "_OSTINATO_COMPLETE"
INTERRUPTED = 130  # the shell's word for SIGINT, before there is a run that could be stopped

# Plain help: rich's markup costs more than the whole answer.
app = typer.Typer(
    name="ostinato",
    help="Train PyTorch models: one config, the same bits on any number of workers, through kills and resumes.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="The YAML file that says everything about the run.", autocompletion=completion.configs)
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Overrides, e.g. train.epochs=3 optimizer.lr=0.05.",
        show_default=False,
        autocompletion=completion.overrides,
    ),
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


@app.command(
    epilog="""Examples:

\b
  ostinato train configs/digits.yaml
  ostinato train configs/digits.yaml train.epochs=3 optimizer.lr=0.1 run.name=faster --nproc-per-node 2
  ostinato train configs/digits.yaml --nnodes 2 --node-rank 0 --rdzv-endpoint node0:29400
  ostinato train configs/digits.yaml --dry-run"""
)
def train(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    nproc_per_node: Annotated[
        str, typer.Option("--nproc-per-node", metavar="N|auto", help="Workers on this machine; auto: one for each GPU, without GPUs one.")
    ] = "auto",
    nnodes: Annotated[int, typer.Option("--nnodes", min=1, help="Machines that train together; start the command on each.")] = 1,
    node_rank: Annotated[int, typer.Option("--node-rank", min=0, help="Which of them this is; node 0 prints how it goes.")] = 0,
    rdzv_endpoint: Annotated[
        str | None, typer.Option("--rdzv-endpoint", metavar="HOST:PORT", help="Where node 0 listens, as the others know it.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an existing run folder aside and start over.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be started; create nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print it as JSON.")] = False,
) -> None:
    """Run a config on this machine. The same command goes on with a run that was stopped."""
    from launcher import local
    from launcher.plan import make_seat

    seat = make_seat(nnodes, node_rank, rdzv_endpoint)
    code = local.train(config, overrides or [], nproc_per_node=nproc_per_node, fresh=fresh, dry_run=dry_run, as_json=as_json, seat=seat)
    raise typer.Exit(code)


@app.command(
    epilog="""Examples:

\b
  ostinato submit configs/digits.yaml --nnodes 2 --nproc-per-node 2 --wait
  ostinato submit configs/cifar10.yaml --profile gpu --time 8:00:00
  ostinato submit configs/cifar10.yaml --profile gpu --dry-run"""
)
def submit(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="NAME", help="slurm/NAME.yaml, or a path: what to ask for.", autocompletion=completion.profiles),
    ] = None,
    nnodes: Annotated[int | None, typer.Option("--nnodes", min=1, help="Machines.")] = None,
    nproc_per_node: Annotated[int | None, typer.Option("--nproc-per-node", min=1, help="Workers on each.")] = None,
    gpus_per_node: Annotated[int | None, typer.Option("--gpus-per-node", min=0, help="GPUs on each.")] = None,
    cpus_per_worker: Annotated[int | None, typer.Option("--cpus-per-worker", min=1, help="Processors for each worker.")] = None,
    mem_gb: Annotated[float | None, typer.Option("--mem-gb", help="Memory of each machine.")] = None,
    time: Annotated[str | None, typer.Option("--time", metavar="LIMIT", help="Time limit: minutes, HH:MM:SS or D-HH:MM:SS.")] = None,
    partition: Annotated[str | None, typer.Option("--partition", help="The queue.")] = None,
    account: Annotated[str | None, typer.Option("--account", help="Who pays.")] = None,
    qos: Annotated[str | None, typer.Option("--qos", help="The quality of service.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an existing run folder aside and start over.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the script for sbatch; create and submit nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Print the log until the run has ended; Ctrl-C leaves the job alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Run a config on Slurm: it queues again by itself after preemption, time limits and lost nodes, and goes on with the same bits."""
    from launcher import slurm

    options = {
        "nodes": nnodes,
        "workers_per_node": nproc_per_node,
        "gpus_per_node": gpus_per_node,
        "cpus_per_worker": cpus_per_worker,
        "memory_gb": mem_gb,
        "time": int(time) if time is not None and time.isdigit() else time,
        "partition": partition,
        "account": account,
        "qos": qos,
    }
    code = slurm.submit(config, overrides or [], profile=profile, options=options, fresh=fresh, dry_run=dry_run, as_json=as_json, wait=wait)
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
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN | data CONFIG [KEY=VALUE]...", help="A run folder; or 'data' and a config.", autocompletion=completion.inspected
        ),
    ],
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", metavar="NAME", help="Say what is in this one.", autocompletion=completion.checkpoints)
    ] = None,
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


RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run folder.", autocompletion=completion.runs)]


@app.command(
    epilog="""Examples:

\b
  ostinato status
  ostinato status runs/digits --json
  ostinato status --root /scratch/me/runs"""
)
def status(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders; none: all in --root.", show_default=False, autocompletion=completion.runs),
    ] = None,
    root: Annotated[str, typer.Option("--root", metavar="FOLDER", help="The folder around the runs.")] = "runs",
    as_json: Annotated[bool, typer.Option("--json", help="Print a list as JSON.")] = False,
) -> None:
    """Say how runs stand, one line each, whether they run here, on another machine or in Slurm."""
    from launcher.status import status

    raise typer.Exit(status(runs or [], root=root, as_json=as_json))


@app.command(
    epilog="""Examples:

\b
  ostinato logs runs/digits
  ostinato logs runs/digits --rank all -f
  ostinato logs runs/digits --attempt 0 --rank 1"""
)
def logs(
    run: RunArgument,
    rank: Annotated[str, typer.Option("--rank", metavar="N|all", help="Whose log; all: each line says whose it is.")] = "0",
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="K", min=0, help="Which attempt; without it the newest.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written, until nobody runs it any more.")] = False,
) -> None:
    """Print what a run's workers wrote. With -f through restarts and requeues; Ctrl-C ends only the looking."""
    from launcher.logs import logs

    raise typer.Exit(logs(run, rank=rank, attempt=attempt, follow=follow))


@app.command(
    epilog="""Examples:

\b
  ostinato watch runs/digits
  ostinato watch runs/digits --once"""
)
def watch(
    run: RunArgument,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and leave; so it is where the output is no terminal.")] = False,
) -> None:
    """Show a run as it goes: progress, curves, pace, each rank, checkpoints. It only reads; Ctrl-C ends the looking, and the run goes on.

    A run that is not there yet is waited for; one that has ended is shown, and that is all.
    """
    from launcher.watch.command import watch

    raise typer.Exit(watch(run, once=once))


@app.command(
    epilog="""Examples:

\b
  ostinato report runs/digits
  ostinato report runs/digits runs/digits-torchrun --output both.html
  ostinato report runs/digits --png pictures --open"""
)
def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Run folders; several are laid over each other and compared.", autocompletion=completion.runs
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Else report.html in the run; of several runs here.", show_default=False),
    ] = None,
    png: Annotated[
        str | None, typer.Option("--png", metavar="FOLDER", help="Also draw the curves as PNG pictures.", show_default=False)
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Write a page about runs that needs no network: curves, what happened when, the machine, hashes, classes, predictions, config.

    Runs under way, stopped or failed have one as well; it says how they stood.
    """
    from launcher.report.command import report

    raise typer.Exit(report(runs, output=output, png=png, show=show))


@app.command(
    epilog="""Examples:

\b
  ostinato stop runs/digits
  ostinato stop runs/digits runs/faster --no-wait"""
)
def stop(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders.", autocompletion=completion.runs)],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until they have stopped; Ctrl-C ends only the waiting.")] = True,
) -> None:
    """Stop runs with a checkpoint, here or in Slurm, or take them from its queue. One that does not run is told so, and is no error."""
    from launcher.stopping import stop

    raise typer.Exit(stop(runs, wait=wait))


@app.command(
    epilog="""Examples:

\b
  ostinato resume runs/digits
  ostinato resume runs/digits --nproc-per-node 1"""
)
def resume(
    run: RunArgument,
    nproc_per_node: Annotated[
        str | None,
        typer.Option("--nproc-per-node", metavar="N|auto", help="Workers here; without it as many as before.", show_default=False),
    ] = None,
) -> None:
    """Go on with a run on this machine, from its own config and from any folder; the same bits on any number of workers."""
    from launcher.stopping import resume

    raise typer.Exit(resume(run, nproc_per_node=nproc_per_node))


CheckpointOption = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        metavar="NAME",
        help="best (the newest where none is best), last, or a checkpoint's name.",
        autocompletion=completion.checkpoints,
    ),
]


@app.command(
    epilog="""Examples:

\b
  ostinato evaluate runs/digits
  ostinato evaluate runs/digits --split valid --checkpoint last --nproc-per-node 2
  ostinato evaluate runs/digits --json --output results"""
)
def evaluate(
    run: RunArgument,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="test, valid or train; without it the first of them.",
            show_default=False,
            autocompletion=completion.splits,
        ),
    ] = None,
    checkpoint: CheckpointOption = "best",
    nproc_per_node: Annotated[
        str, typer.Option("--nproc-per-node", metavar="N|auto", help="Workers here; auto: one for each GPU, without GPUs one.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    output: Annotated[
        str | None, typer.Option("--output", metavar="FOLDER", help="Where table, JSON and picture go; without it into the run's folder.")
    ] = None,
) -> None:
    """Evaluate a run's weights: every sample once, the same numbers on any number of workers; metrics, classes, confusion matrix."""
    from launcher.evaluate import evaluate

    code = evaluate(run, split=split, checkpoint=checkpoint, nproc_per_node=nproc_per_node, as_json=as_json, output=output)
    raise typer.Exit(code)


@app.command(
    epilog="""Examples:

\b
  ostinato predict runs/flowers rose.jpg tulip.png
  ostinato predict runs/flowers photos --top-k 3 --csv answers.csv
  ostinato predict runs/text_bow letters.txt --json"""
)
def predict(
    run: RunArgument,
    paths: Annotated[list[str], typer.Argument(metavar="FILE|FOLDER...", help="Pictures; lines of .txt; rows of .csv and .npy.")],
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many of the likeliest classes to tell.")] = 5,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Inputs in one forward pass.")] = 32,
    checkpoint: CheckpointOption = "best",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    csv: Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Also write a table.")] = None,
) -> None:
    """Say what a run's model makes of new inputs. One that cannot be used is one line, the others go on, and the exit code is 4."""
    from launcher.predict import predict

    code = predict(run, paths, top_k=top_k, batch_size=batch_size, checkpoint=checkpoint, as_json=as_json, csv_file=csv)
    raise typer.Exit(code)


@app.command(
    epilog="""Examples:

\b
  ostinato export runs/digits
  ostinato export runs/digits --format torch --format onnx --output model"""
)
def export(
    run: RunArgument,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="safetensors (default), torch, onnx or all; may be repeated.",
            show_default=False,
            autocompletion=completion.formats,
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="FOLDER", help="Where the files go; without it into the run's folder.")
    ] = None,
    checkpoint: CheckpointOption = "best",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Write a run's model for use elsewhere, and compare its outputs with the run's; where they differ nothing is left (exit code 1)."""
    from launcher.export import export

    raise typer.Exit(export(run, formats or [], output=output, checkpoint=checkpoint, as_json=as_json))


@app.command(
    epilog="""Examples:

\b
  ostinato serve runs/flowers
  ostinato serve runs/flowers --port 7861 --checkpoint last"""
)
def serve(
    run: RunArgument,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; another address than this lets others in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0: any that is free.")] = 7860,
    checkpoint: CheckpointOption = "best",
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Show a page to drop an input on and see what the run's model makes of it. Needs the extra ostinato[serve]."""
    from launcher.serve import serve

    raise typer.Exit(serve(run, host=host, port=port, checkpoint=checkpoint, show=show))


@app.command(
    epilog="""Examples:

\b
  ostinato doctor
  ostinato doctor --root /scratch/me/runs --json"""
)
def doctor(
    root: Annotated[str, typer.Option("--root", metavar="FOLDER", help="Where the runs are to be written.")] = "runs",
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Where several machines are to meet; else 29400 is looked at.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list as JSON.")] = False,
) -> None:
    """Look at this machine: what works, what is missing, and what to do about it; exit code 4 if training cannot work."""
    from launcher.doctor.command import doctor

    raise typer.Exit(doctor(root, port=port, as_json=as_json))


@app.command(
    epilog="""Examples:

\b
  ostinato init digits
  ostinato init photos/ --output configs/photos.yaml"""
)
def init(
    what: Annotated[
        str, typer.Argument(metavar="DATA", help="A data set's name, or a folder of images a class.", autocompletion=completion.starters)
    ],
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="Else NAME.yaml here.", show_default=False)] = None,
) -> None:
    """Write a config to begin with, which can be run as it is. An existing file is left alone."""
    from launcher.init import init

    raise typer.Exit(init(what, output=output))


@app.command(
    epilog="""Examples:

\b
  ostinato sweep configs/digits.yaml --grid optimizer.lr=0.02,0.05,0.1 --grid data.batch_size=32,64 --parallel 2
  ostinato sweep configs/digits.yaml --random 9 --halving --grid 'optimizer.lr=log(1e-3,1)' --grid 'optimizer.momentum=uniform(0,0.99)'
  ostinato sweep configs/cifar10.yaml --grid seed=0,1,2 --profile gpu --parallel 4
  ostinato sweep configs/digits.yaml --grid optimizer.lr=0.02,0.05 --dry-run"""
)
def sweep(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    grid: Annotated[
        list[str] | None, typer.Option("--grid", metavar="KEY=A,B,C", help="A key and its values; several: all combinations.")
    ] = None,
    random: Annotated[
        int | None, typer.Option("--random", min=1, help="Draw so many points; values also log(a,b), uniform(a,b), int(a,b).")
    ] = None,
    sweep_seed: Annotated[int, typer.Option("--sweep-seed", help="What the draws come from; a greater --random keeps the first ones.")] = 0,
    halving: Annotated[
        bool, typer.Option("--halving", help="Train all for a few epochs, and only the best ones on, rung by rung.")
    ] = False,
    eta: Annotated[int, typer.Option("--eta", min=2, help="With --halving: one in so many goes on.")] = 3,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What the runs' names begin with; else the config's.")] = None,
    parallel: Annotated[int | None, typer.Option("--parallel", min=1, help="Runs at a time; else one here, all on Slurm.")] = None,
    nproc_per_node: Annotated[
        str, typer.Option("--nproc-per-node", metavar="N|auto", help="Workers of each run on each machine.")
    ] = "auto",
    on_slurm: Annotated[bool, typer.Option("--slurm", help="As job arrays on Slurm, and not here.")] = False,
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="NAME", help="The same, with slurm/NAME.yaml, or a path.", autocompletion=completion.profiles),
    ] = None,
    nnodes: Annotated[int | None, typer.Option("--nnodes", min=1, help="Machines of each run.")] = None,
    time: Annotated[str | None, typer.Option("--time", metavar="LIMIT", help="Time limit of each turn of each run.")] = None,
    partition: Annotated[str | None, typer.Option("--partition", help="The queue.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="On Slurm: stay until all have ended; Ctrl-C leaves the jobs alone.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the runs, and on Slurm the script; start nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Run a config with many settings, here or on Slurm; each is a run like any other. The same command goes on with what is missing."""
    from launcher.sweep import sweep
    from launcher.sweep_plan import Wish

    wish = Wish(
        config,
        tuple(overrides or ()),
        grid=tuple(grid or ()),
        random=random,
        seed=sweep_seed,
        eta=eta if halving else None,
        name=name,
        workers=nproc_per_node,
        parallel=parallel,
        wait=wait,
        dry_run=dry_run,
        as_json=as_json,
    )
    options = {"nodes": nnodes, "time": int(time) if time is not None and time.isdigit() else time, "partition": partition}
    raise typer.Exit(sweep(wish, on_slurm=on_slurm or profile is not None, profile=profile, options=options))


@app.command(
    epilog="""Examples:

\b
  ostinato schema
  ostinato schema > ostinato.schema.json"""
)
def schema() -> None:
    """Print the config's JSON schema, with which an editor completes and checks the YAML."""
    from trainer.config.load import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command(
    epilog="""Examples:

\b
  ostinato verify configs/digits.yaml
  ostinato verify configs/digits.yaml --world-sizes 1,2,4 --kills 5 --steps 100
  ostinato verify configs/digits.yaml data.batch_size=32 --seed 7 --json"""
)
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


@app.command(
    epilog="""Examples:

\b
  ostinato diff runs/digits runs/faster
  ostinato diff runs/digits runs/faster --json"""
)
def diff(
    one: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.", autocompletion=completion.runs)],
    two: Annotated[str, typer.Argument(metavar="RUN", help="The other one.", autocompletion=completion.runs)],
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
