"""The multipath channels of 3GPP TR 38.901, drawn by Sionna, and the statistics that a receiver may know of them.

TensorFlow is loaded on first use, never on import.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import scipy  # its submodules are loaded on first use

from channel_sim import sionna_blocks
from channel_sim.checks import require
from channel_sim.keys import Key

MultipathName = Literal["tdl_a", "tdl_b", "tdl_c", "tdl_d", "tdl_e", "cdl_a", "cdl_c"]
MULTIPATH_MODELS: tuple[MultipathName, ...] = get_args(MultipathName)

LINE_OF_SIGHT_ANGLE = np.pi / 4
"""Between line of sight and motion in the tapped delay lines: it shifts by 0.7 of the largest Doppler shift."""

DIRECTIONS = 128
"""Points of the mean over directions of motion: a periodic integrand, exact over the few wavelengths of a slot."""


@dataclass(frozen=True)
class Statistics:
    """What is known of a channel without having met it. A path is scattered, CN, or one specular ray of random phase.

    delays:      float64 [num_paths], seconds
    powers:      float64 [num_paths], sum 1
    correlation: complex128 [num_paths, num_lags], E[a(t + lag) a(t)*] / power at lags 0, 1, 2, … steps
    """

    delays: np.ndarray
    powers: np.ndarray
    correlation: np.ndarray


@dataclass(frozen=True)
class Multipath:
    """Path gains over time between one antenna and another, of mean total energy 1.

    tdl_*: each path a sum of 20 sinusoids whose arrivals lie evenly around the receiver; D and E have a line of sight of random
           phase whose arrival makes 45 degrees with the motion
    cdl_*: downlink between two vertical antennas without gain; the receiver moves in a random direction, its azimuth uniform and
           its angle from the zenith uniform

    Source: 3GPP TR 38.901, "Study on channel model for frequencies from 0.5 to 100 GHz" (2017), section 7.7 (tables as Sionna has
    them); C. Xiao, Y. R. Zheng, N. C. Beaulieu, "Novel sum-of-sinusoids simulation models for Rayleigh and Rician fading
    channels", IEEE Trans. Wireless Commun. 5 (2006).
    """

    model: MultipathName = "tdl_a"
    delay_spread_ns: float = 100.0
    carrier_ghz: float = 3.5
    speed_kmh: float = 3.0

    def __post_init__(self) -> None:
        require(self.model in MULTIPATH_MODELS, f"fading must be one of {', '.join(MULTIPATH_MODELS)}, got {self.model!r}")
        require(self.delay_spread_ns >= 0, f"delay_spread_ns must be >= 0, got {self.delay_spread_ns:g}: 0 makes the channel flat")
        require(self.carrier_ghz > 0, f"carrier_ghz must be > 0, got {self.carrier_ghz:g}: give the carrier in GHz, e.g. 3.5")
        require(self.speed_kmh >= 0, f"speed_kmh must be >= 0, got {self.speed_kmh:g}: 0 makes the channel constant")

    @property
    def longest_delay_ns(self) -> float:
        """Delay of the last path behind the first."""
        return float(max(_table(self.model)["delays"]) * self.delay_spread_ns)

    @property
    def doppler_hz(self) -> float:
        """Largest Doppler shift."""
        return self.speed_kmh / 3.6 * self.carrier_ghz * 1e9 / scipy.constants.speed_of_light

    def statistics(self, num_lags: int, step_seconds: float) -> Statistics:
        """Delays, powers and correlations in time. The zenith spread inside a cluster of a CDL model is left out.

        Source: W. C. Jakes, "Microwave Mobile Communications" (1974), section 1.1.
        """
        table = _table(self.model)
        delays, powers = np.array(table["delays"]), 10 ** (np.array(table["powers"]) / 10)
        turns = 2 * np.pi * self.doppler_hz * step_seconds * np.arange(num_lags)
        if self.model.startswith("cdl"):
            correlation = np.stack([_any_direction(turns, zenith) for zenith in np.deg2rad(table["zoa"])]).astype(complex)
        else:
            correlation = np.tile(scipy.special.j0(turns), (powers.size, 1)).astype(complex)
        if table["los"]:
            correlation[0] = np.exp(1j * turns * np.cos(LINE_OF_SIGHT_ANGLE))
        return Statistics(delays * self.delay_spread_ns * 1e-9, powers / powers.sum(), correlation)

    def draw(self, num_steps: int, step_seconds: float, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(gains complex128 [num_taps, num_steps], delays float64 [num_taps] in seconds); the first steps of a longer draw."""
        # Sionna draws from tensors of one shape for one model: only the time axis grows, by powers of two
        length = 1 << max(num_steps - 1, 255).bit_length()
        low, high = key.child("multipath", 0).seed(), key.child("multipath", 1).seed()
        gains, delays = _drawn(self, length, step_seconds, high << 31 | low)
        return gains[:, :num_steps], delays


def _any_direction(turns: np.ndarray, zenith: float) -> np.ndarray:
    """Mean of exp(j turns · cos(angle between a ray from `zenith` and the motion)) over the directions of motion; it is real."""
    motion = (np.arange(DIRECTIONS) + 0.5) * np.pi / DIRECTIONS
    across, along = np.sin(zenith) * np.sin(motion), np.cos(zenith) * np.cos(motion)
    return np.mean(scipy.special.j0(np.multiply.outer(turns, across)) * np.cos(np.multiply.outer(turns, along)), axis=1)


@lru_cache(maxsize=None)
def _table(model: str) -> dict[str, Any]:
    """The model's table in Sionna's files: delays in delay spreads, powers in dB, the line of sight first if it has one."""
    spec = find_spec("sionna")  # found, not imported: checks must not load TensorFlow
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0], "phy", "channel", "tr38901", "models")
    table: dict[str, Any] = json.loads((folder / f"{model.upper().replace('_', '-')}.json").read_text(encoding="utf-8"))
    return table


# all arms and points of a scenario meet the same channel
@lru_cache(maxsize=16)
def _drawn(multipath: Multipath, num_steps: int, step_seconds: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    tf, _ = sionna_blocks.load()
    with tf.device("/CPU:0"), _generator(seed):  # too small to gain from a GPU
        gains, delays = _model(multipath)(1, num_steps, 1 / step_seconds)
    gains, delays = gains.numpy()[0, 0, 0, 0, 0], delays.numpy()[0, 0, 0]
    gains.flags.writeable = delays.flags.writeable = False
    return gains, delays


@contextmanager
def _generator(seed: int) -> Iterator[None]:
    """Have Sionna draw from a fresh Philox stream named by `seed`, and give it its own generator back."""
    tf, phy = sionna_blocks.load()
    config = phy.config
    # config.seed sets where in one stream to start: near seeds share draws. It also fails under enable_op_determinism
    own, config._tf_rng = config._tf_rng, tf.random.Generator.from_key_counter(key=seed, counter=[0, 0], alg="philox")
    try:
        yield
    finally:
        config._tf_rng = own


@lru_cache(maxsize=64)
def _model(multipath: Multipath) -> Any:
    sionna_blocks.load()
    tr38901 = import_module("sionna.phy.channel.tr38901")
    kind, letter = multipath.model.upper().split("_")
    spread, carrier, speed = multipath.delay_spread_ns * 1e-9, multipath.carrier_ghz * 1e9, multipath.speed_kmh / 3.6
    if kind == "TDL":
        return tr38901.TDL(letter, spread, carrier, min_speed=speed, los_angle_of_arrival=LINE_OF_SIGHT_ANGLE, precision="double")
    antenna = tr38901.PanelArray(num_rows_per_panel=1, num_cols_per_panel=1, polarization="single", polarization_type="V",
                                 antenna_pattern="omni", carrier_frequency=carrier, precision="double")
    return tr38901.CDL(letter, spread, carrier, antenna, antenna, "downlink", min_speed=speed, precision="double")
