"""`channel-sim train …`: what can be trained or fitted on a user's own data, one function and one parser each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from scenarios.arguments import count, new_file


def add_trainers(models: Any) -> None:
    """A sub-command for each; `models` is what `add_subparsers` gave."""
    _add_bler_table(models)
    _add_loss_model(models)
    ngram = models.add_parser("ngram", help="byte n-gram, interpolated Kneser-Ney, pruned")
    ngram.set_defaults(function=_ngram)
    ngram.add_argument("--data", type=Path, required=True, help="a file or a folder of training data")
    ngram.add_argument("--out", type=Path, default=Path("ngram.safetensors"), help="weights to write (default ngram.safetensors)")
    ngram.add_argument("--order", type=count, default=8, help="longest n-gram (default 8)")
    ngram.add_argument("--max-megabytes", type=float, default=6.0, help="size to prune to (default 6)")
    _add_bpe(models)
    _add_text(models)
    _add_pictures(models, "vq-image", "picture tokenizer: a convolutional network and its code book", _vq_image)
    _add_pictures(models, "image-masked", "masked model of the picture tokenizer's tokens, exact in integers once trained",
                  _image_masked)
    _add_pictures(models, "bytes", "byte model of grey pictures or of 8-bit sounds (width = 0), exact in integers once trained",
                  _bytes, sounds="; or a sound or a folder of sounds")
    _add_pictures(models, "diffusion", "denoiser of 32x32 RGB pictures at many noise levels, exact in integers once trained",
                  _diffusion)
    _add_classifier(models)


def _ngram(options: argparse.Namespace) -> int:
    from scenarios.progress import Progress
    from sources.training.ngram import train_ngram

    with Progress("ngram") as progress:
        card = train_ngram(options.data, options.out, order=options.order, max_megabytes=options.max_megabytes, progress=progress)
    print(card)
    return 0


def _add_loss_model(models: Any) -> None:
    fit = models.add_parser("loss-model", help="loss models fitted to a trace, and a scenario that replays it beside them")
    fit.set_defaults(function=_loss_model)
    fit.add_argument("trace", type=Path, metavar="TRACE", help="text file of 0 and 1, one a packet, 1 = lost")
    fit.add_argument("--out", type=Path, default=Path("loss_model.toml"), help="scenario to write (default loss_model.toml)")


def _loss_model(options: argparse.Namespace) -> int:
    from scenarios.loss_models import fit_trace

    print(fit_trace(options.trace, options.out))
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
    table.add_argument("--fading-blocks", type=count, default=40_000, help="blocks of a point over fading (default 40000)")
    table.add_argument("--seed", type=int, default=1, help="of all that is drawn (default 1)")
    table.add_argument("--out", type=new_file, default="bler_table.json", help="file to write (default bler_table.json)")


def _bler_table(options: argparse.Namespace) -> int:
    from channel_sim.bler_measurement import LEAST_FITTED_RATE, fit_mappings, measure_table
    from channel_sim.block_errors import write_table
    from channel_sim.checks import RequestError
    from channel_sim.link import CodedLink
    from scenarios.catalogue import build

    keys = {"name": "coded_link", "code": options.code, "block_bits": options.block_bits, "code_rate": options.code_rate,
            "modulation": options.modulation, "num_iterations": options.num_iterations, "ldpc_backend": options.ldpc_backend,
            "list_size": options.list_size, "esno_db": 0.0}
    link = build("channels", keys, "train bler-table")
    assert isinstance(link, CodedLink)
    if not 0 < options.lowest_rate <= LEAST_FITTED_RATE:  # known before hours of measuring
        raise RequestError(f"--lowest-rate must lie in (0, {LEAST_FITTED_RATE:g}], got {options.lowest_rate:g}: "
                           "fading is fitted down to there")
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


def _add_bpe(models: Any) -> None:
    bpe = models.add_parser("bpe", help="vocabulary of byte pairs, for tokenizer bpe")
    bpe.set_defaults(function=_bpe)
    bpe.add_argument("--data", type=Path, required=True, help="a file or a folder of training data")
    bpe.add_argument("--out", type=Path, default=Path("bpe.json"), help="vocabulary to write (default bpe.json)")
    bpe.add_argument("--vocab-size", type=count, default=1024, help="number of tokens (default 1024)")


def _bpe(options: argparse.Namespace) -> int:
    from sources.bpe import train_bpe

    print(train_bpe(options.data, options.out, vocab_size=options.vocab_size))
    return 0


def _add_text(models: Any) -> None:
    text = models.add_parser("text", help="recurrent network over byte pairs or bytes, exact in integers once trained")
    text.set_defaults(function=_text)
    text.add_argument("--config", type=Path, required=True, help="settings (TOML); an empty file takes the defaults")
    text.add_argument("--data", type=Path, required=True, help="a file or a folder of training data")
    text.add_argument("--out", type=Path, default=Path("text.safetensors"), help="weights to write (default text.safetensors)")
    text.add_argument("--resume", action="store_true", help="go on from the checkpoint beside --out")


def _text(options: argparse.Namespace) -> int:
    from sources.training.text import train_text

    return _trained("text", train_text, options)


def _add_pictures(models: Any, name: str, what: str, function: Callable[[argparse.Namespace], int], sounds: str = "") -> None:
    pictures = models.add_parser(name, help=what)
    pictures.set_defaults(function=function)
    pictures.add_argument("--config", type=Path, required=True, help="settings (TOML); an empty file takes the defaults")
    pictures.add_argument("--data", type=Path, required=True, action="append",
                          help=f"a picture, a folder of pictures or a stack uint8 [n, H, W, 3] (.npy, .npz){sounds}; may repeat, "
                               "each has its turn, one that is named twice has two")
    pictures.add_argument("--out", type=Path, default=Path(f"{name}.safetensors"),
                          help=f"weights to write (default {name}.safetensors)")
    pictures.add_argument("--resume", action="store_true", help="go on from the checkpoint beside --out")


def _vq_image(options: argparse.Namespace) -> int:
    from sources.training.images import train_vq_image

    return _trained("vq-image", train_vq_image, options)


def _image_masked(options: argparse.Namespace) -> int:
    from sources.training.images import train_image_masked

    return _trained("image-masked", train_image_masked, options)


def _bytes(options: argparse.Namespace) -> int:
    from sources.training.neighbourhood import train_bytes

    return _trained("bytes", train_bytes, options)


def _diffusion(options: argparse.Namespace) -> int:
    from sources.training.diffusion import train_diffusion

    return _trained("diffusion", train_diffusion, options)


def _add_classifier(models: Any) -> None:
    classifier = models.add_parser("classifier", help="picture classifier, for evaluators; exact in integers once trained")
    classifier.set_defaults(function=_classifier)
    classifier.add_argument("--config", type=Path, required=True, help="settings (TOML); an empty file takes the defaults")
    classifier.add_argument("--data", type=Path, required=True, help=".npz with images uint8 [n, 32, 32, 3] and labels [n]")
    classifier.add_argument("--validation", type=Path, help=".npz to measure the finished classifier on, for its card")
    classifier.add_argument("--out", type=Path, default=Path("classifier.safetensors"),
                            help="weights to write (default classifier.safetensors)")
    classifier.add_argument("--resume", action="store_true", help="go on from the checkpoint beside --out")


def _classifier(options: argparse.Namespace) -> int:
    from sources.training.classifier import train_classifier

    return _trained("classifier", partial(train_classifier, validation=options.validation), options)


def _trained(title: str, train: Callable[..., str], options: argparse.Namespace) -> int:
    """Run a training that goes on from its checkpoint when it is interrupted; its model card goes to standard output."""
    from scenarios.progress import Progress

    try:
        with Progress(title) as progress:
            card = train(options.config, options.data, options.out, resume=options.resume, progress=progress)
    except KeyboardInterrupt:
        print(f"channel-sim: interrupted; --resume goes on from {options.out.with_suffix('.checkpoint')}", file=sys.stderr)
        return 1
    print(card)
    return 0
