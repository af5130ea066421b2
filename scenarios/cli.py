"""The command line. Exit status 0 done, 1 ran but something failed, 2 the request was wrong."""

from __future__ import annotations

import argparse
import shlex
import sys
import tomllib
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from channel_sim.checks import RequestError
from scenarios import catalogue, compress
from scenarios.arguments import count, seconds
from scenarios.scenario import shipped
from scenarios.train import add_trainers


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong in one line, as every other refusal does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"channel-sim: {message}; {self.prog} --help lists what there is\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what the user got wrong is one line on stderr, without a traceback."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    options.command_line = shlex.join(["channel-sim", *arguments])
    try:
        return options.function(options)
    except RequestError as error:
        print(f"channel-sim: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("channel-sim: interrupted; finished blocks are kept; run the same command to go on", file=sys.stderr)
        return 1


def _list(options: argparse.Namespace) -> int:
    from channel_sim.metrics import CATALOGUE as METRICS

    described = {kind: {name: _first_line(cls) for name, cls in classes.items()}
                 for kind, classes in catalogue.CATALOGUE.items() if kind != "receivers"}
    described["metrics"] = {name: f"{metric.description} [{metric.unit}]" for name, metric in METRICS.items()}
    described["scenarios"] = {name: _question(name) for name in shipped()}
    for kind in [options.kind] if options.kind else described:
        if not options.kind:
            print(f"{kind}:")
        for name, line in described[kind].items():
            print(f"  {name:28} {line}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from scenarios.progress import Progress
    from scenarios.python_api import conduct
    from scenarios.scenario import load
    from scenarios.status import dry_run

    overrides = dict(_setting(one) for one in options.set)
    if options.items is not None:
        overrides["items"] = options.items
    scenario = load(options.scenario, overrides)
    out = options.out or Path("results") / scenario.name
    if options.dry_run:
        print(dry_run(scenario, out, options.workers))
        return 0
    with Progress.of(scenario) as progress:
        done = conduct(scenario, out, options.command_line, workers=options.workers, scheduler=options.scheduler,
                       max_seconds=options.max_seconds, progress=progress)
    print(f"report: {out / 'report.html'}")
    if done.num_failed:
        print(f"channel-sim: {done.num_failed} trials failed, the rest is done; channel-sim status {shlex.quote(str(out))} "
              "names their errors", file=sys.stderr)
    if done.stopped:
        print(f"channel-sim: stopped at the {done.stopped}; run the same command to go on", file=sys.stderr)
    return 1 if done.num_failed or done.stopped else 0


def _status(options: argparse.Namespace) -> int:
    from scenarios.status import status

    print(status(options.folder))
    return 0


def _merge(options: argparse.Namespace) -> int:
    from scenarios.merge import merge
    from scenarios.status import status

    added = merge(options.stores, options.out)
    print(f"{added} trials added to {options.out}")
    print(status(options.out).splitlines()[-1])
    return _write_report(options.out, options.out)


def _report(options: argparse.Namespace) -> int:
    from scenarios.compare import compare

    if len(options.folders) == 1:
        folder = options.folders[0]
        return _write_report(folder, options.out or folder, options.baseline)
    out = options.out or Path("results") / "+".join(folder.resolve().name for folder in options.folders)
    compare(options.folders, out, options.command_line)
    return _write_report(out, out, options.baseline)


def _write_report(folder: Path, out: Path, baseline: str | None = None) -> int:
    from channel_sim.store import Store
    from scenarios.python_api import write_results

    with closing(Store(folder / "results.sqlite")) as store:
        write_results(store, out, baseline)
    print(f"report: {out / 'report.html'}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from channel_sim.store import Store
    from reports.export import export

    with closing(Store(options.folder / "results.sqlite")) as store:
        paths = export(store, options.format, options.out or options.folder / "export")
    for path in paths:
        print(path)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from scenarios.doctor import examine

    return examine()


def _transmit(options: argparse.Namespace) -> int:
    from scenarios.progress import Progress
    from scenarios.transmit import transmit

    with Progress(f"transmit {options.file.name}") as progress:
        page = transmit(options.file, options.scenario, options.out, dict(_setting(one) for one in options.set), progress)
    print(f"page: {page}")
    return 0


def _setting(text: str) -> tuple[str, Any]:
    """'key=value' with a TOML value; what is no TOML value is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RequestError(f"--set {text}: must be key=value, such as channel.loss_rate=0.1")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().split("\n")[0]


def _question(name: str) -> str:
    from scenarios.scenario import read_shipped

    return str(read_shipped(name).get("question", ""))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="channel-sim", description="Generative coding over bad channels: send, restore, measure.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(commands, "list", _list, "what there is: sources, channels, decoders, scenarios, …").add_argument(
        "kind", nargs="?", choices=[*(kind for kind in catalogue.CATALOGUE if kind != "receivers"), "metrics", "scenarios"])

    run = _command(commands, "run", _run, "run a scenario, or go on with it")
    run.add_argument("scenario", help="a scenario file, or the name of a shipped one")
    run.add_argument("--out", type=Path, help="folder of the results (default results/NAME)")
    run.add_argument("--items", type=count, help="number of items, instead of the scenario's")
    run.add_argument("--workers", type=count, default=1, help="processes (default 1); results do not depend on it")
    run.add_argument("--scheduler", metavar="ADDRESS", help="run on a Dask cluster, such as tcp://10.0.0.1:8786")
    run.add_argument("--max-seconds", type=seconds, help="end like an interrupted run after this time; the same command goes on")
    run.add_argument("--dry-run", action="store_true", help="only say what would be run and how long it may take")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set a key of every arm that has it")

    status = _command(commands, "status", _status, "what is done, missing and failed, and how wide the intervals are")
    status.add_argument("folder", type=Path, help="folder of the results")

    report = _command(commands, "report", _report, "write report, figures and tables again, or of several runs together")
    report.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="folders of results over the same items")
    report.add_argument("--out", type=Path, help="folder of what is written (default: that of the results; results/A+B of several)")
    report.add_argument("--baseline", metavar="ARM", help="show how all other arms differ from the one with this label")

    export = _command(commands, "export", _export, "write the results for other programs: arrays, LaTeX, a notebook")
    export.add_argument("folder", type=Path, help="folder of the results")
    export.add_argument("--format", required=True, metavar="FORMAT",
                        help="csv, mat (MATLAB, Octave), npz (NumPy), pgfplots, booktabs (LaTeX), notebook (Jupyter)")
    export.add_argument("--out", type=Path, help="folder of the files (default: export in that of the results)")

    merge = _command(commands, "merge", _merge, "unite the results of several runs of one scenario")
    merge.add_argument("stores", type=Path, nargs="+", metavar="STORE", help="folders of results, or results.sqlite files")
    merge.add_argument("--out", type=Path, required=True, help="folder of the united results, new or one of them")

    send = _command(commands, "transmit", _transmit, "send a file of your own through a scenario's arms")
    send.add_argument("file", type=Path)
    send.add_argument("--scenario", default="quickstart", help="a scenario file, or the name of a shipped one")
    send.add_argument("--out", type=Path, required=True, help="folder for what arrives")
    send.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set a key of every arm that has it")

    train = commands.add_parser("train", help="train a model on your own data", description="train a model on your own data")
    add_trainers(train.add_subparsers(required=True, metavar="MODEL"))

    compress.add_commands(partial(_command, commands))
    _command(commands, "doctor", _doctor, "check this installation")
    return parser


def _command(commands: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(function=function)
    return command
