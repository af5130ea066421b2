"""`channel-sim train …`: what can be trained or fitted on a user's own data, one function and one parser each."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scenarios.arguments import count


def add_trainers(models: Any) -> None:
    """A sub-command for each; `models` is what `add_subparsers` gave."""
    _add_bler_table(models)
    ngram = models.add_parser("ngram", help="byte n-gram, interpolated Kneser-Ney, pruned")
    ngram.set_defaults(function=_ngram)
    ngram.add_argument("--data", type=Path, required=True, help="a file or a folder of training data")
    ngram.add_argument("--out", type=Path, default=Path("ngram.safetensors"), help="weights to write (default ngram.safetensors)")
    ngram.add_argument("--order", type=count, default=8, help="longest n-gram (default 8)")
    ngram.add_argument("--max-megabytes", type=float, default=6.0, help="size to prune to (default 6)")


def _ngram(options: argparse.Namespace) -> int:
    from scenarios.progress import Progress
    from sources.training import train_ngram

    with Progress("ngram") as progress:
        card = train_ngram(options.data, options.out, order=options.order, max_megabytes=options.max_megabytes, progress=progress)
    print(card)
    return 0


def _add_bler_table(models: Any) -> None:
    table = models.add_parser("bler-table", help="block error rates of the bit-exact coded link over AWGN, for channel bler_table")
    table.set_defaults(function=_bler_table)
    table.add_argument("--code", default="ldpc", help="as in coded_link (default ldpc)")
    table.add_argument("--block-bits", type=count, default=512, help="information bits of a code block (default 512)")
    table.add_argument("--code-rate", type=float, default=0.5, help="information bits per coded bit (default 0.5)")
    table.add_argument("--modulation", default="qpsk", help="as in coded_link (default qpsk)")
    table.add_argument("--num-iterations", type=count, default=20, help="of the LDPC or turbo decoder (default 20)")
    table.add_argument("--ldpc-backend", choices=("numba", "sionna"), default="numba", help="LDPC decoder (default numba)")
    table.add_argument("--list-size", type=count, default=8, help="of the polar decoder (default 8)")
    table.add_argument("--step-db", type=_above_zero, default=0.125, help="between points of Es/N0 (default 0.125)")
    table.add_argument("--lowest-rate", type=_above_zero, default=1e-3, help="end at the first point with this rate (default 1e-3)")
    table.add_argument("--block-errors", type=count, default=100, help="to count at each point (default 100)")
    table.add_argument("--most-blocks", type=count, default=1_000_000, help="blocks of a point, at most (default 1000000)")
    table.add_argument("--fading-blocks", type=count, default=30_000, help="blocks of a point over fading (default 30000)")
    table.add_argument("--seed", type=int, default=1, help="of all that is drawn (default 1)")
    table.add_argument("--out", type=Path, default=Path("bler_table.json"), help="file to write (default bler_table.json)")


def _bler_table(options: argparse.Namespace) -> int:
    from channel_sim.bler_measurement import fit_mappings, measure_table
    from channel_sim.block_errors import write_table
    from channel_sim.link import CodedLink
    from scenarios.catalogue import build

    keys = {"name": "coded_link", "code": options.code, "block_bits": options.block_bits, "code_rate": options.code_rate,
            "modulation": options.modulation, "num_iterations": options.num_iterations, "ldpc_backend": options.ldpc_backend,
            "list_size": options.list_size, "esno_db": 0.0}
    link = build("channels", keys, "train bler-table")
    assert isinstance(link, CodedLink)
    print(f"{'Es/N0 dB':>9}{'errors':>9}{'blocks':>9}  rate")
    table = measure_table(link, step_db=options.step_db, lowest_rate=options.lowest_rate, least_errors=options.block_errors,
                          most_blocks=options.most_blocks, seed=options.seed, progress=_print_point)
    print("over fading, 2 to 32 fades a block:")
    table = fit_mappings(link, table, num_blocks=options.fading_blocks, seed=options.seed, progress=_print_point)
    write_table(table, options.out)
    print(f"{table.use}: {options.out}")
    return 0


def _print_point(esno_db: float, errors: int, blocks: int) -> None:
    print(f"{esno_db:>9.3f}{errors:>9}{blocks:>9}  {errors / blocks:.4g}", flush=True)


def _above_zero(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return number
