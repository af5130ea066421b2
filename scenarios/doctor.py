"""`channel-sim doctor`: does this installation work, and if not, what to do."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from channel_sim.keys import Key
from channel_sim.trial import run, send
from channel_sim.types import Evidence, Item, hard_decision
from scenarios.scenario import load, shipped
from sources.codecs import Avif, Jpeg, Jpeg2000, Png, Webp, library_versions

_LINK = {"name": "coded_link", "code": "ldpc", "block_bits": 256, "code_rate": 0.5, "modulation": "qpsk", "fading": "awgn",
         "esno_db": 10.0}


def examine() -> int:
    """Run every check and print a line for each; 0 when all pass, else 1."""
    results = [_check(name, check) for name, check in _CHECKS.items()]
    return 0 if all(results) else 1


def _check(name: str, check: Callable[[], str]) -> bool:
    try:
        print(f"ok    {name}: {check()}")
        return True
    except Exception as error:  # a check-up reports whatever is broken, and goes on
        print(f"FAIL  {name}: {type(error).__name__}: {error}")
        return False


def _python() -> str:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise RuntimeError(f"Python {platform.python_version()} is not supported; use 3.11, 3.12 or 3.13")
    return platform.python_version()


def _scenarios() -> str:
    for name in shipped():
        load(name)
    return f"{len(shipped())} shipped scenarios load"


def _entropy_coding() -> str:
    from sources.coder import Entropy
    from sources.models.ngram import NGram

    chain = load({"question": "?", "items": 1, "source": {"name": "text"}, "arm": [{"label": "check"}]}).tasks[0].chain
    tokens = send(chain, [0], Key(0))[0].tokens
    coder = Entropy(model=NGram(), packet_bits=None)
    packets, _ = coder.encode([tokens])[0]
    return f"n-gram codes {tokens.values.size} bytes in {int(packets.num_bits.sum())} bits (constriction {version('constriction')})"


def _image_codecs() -> str:
    picture = Item(np.full((16, 16, 3), 100, np.uint8), "image", "grey")
    for codec in (Jpeg(), Webp(), Avif(), Jpeg2000(), Png()):
        tokens = codec.encode(picture, Key(0))
        received = Evidence(np.ones(tokens.values.size, bool), tokens.values, 256, content_shape=tokens.content_shape)
        if codec.decode(hard_decision(received), Key(0))[1].any():
            raise RuntimeError(f"{type(codec).__name__} reads not what it writes; install Pillow from its wheel")
    return ", ".join(f"{name} {number}" for name, number in library_versions().items())


def _link() -> str:
    scenario = load({"question": "?", "items": 1, "source": {"name": "text", "item_bytes": 128}, "channel": _LINK,
                     "arm": [{"label": "check"}]})
    chain = scenario.tasks[0].chain
    (outcome,) = run(chain, send(chain, [0], Key(0)), 0, Key(0))
    if not np.array_equal(outcome.received.reconstruction.values, outcome.sent.tokens.values):
        raise RuntimeError("a clean LDPC link lost data; reinstall sionna-no-rt and tensorflow in the pinned ranges")
    return f"LDPC link is clean at 10 dB (sionna-no-rt {version('sionna-no-rt')}, tensorflow {version('tensorflow')})"


_CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "scenarios": _scenarios,
    "entropy coding": _entropy_coding,
    "image codecs": _image_codecs,
    "sionna link": _link,
}
