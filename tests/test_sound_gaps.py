"""Gaps in sounds: the exact conditional mean where the process is known, and near it where it must be learnt."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import toeplitz
from scipy.signal import lfilter
from threadpoolctl import threadpool_limits

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.trial import run, send
from decoders.autoregressive import Autoregressive, burg, conditional_mean
from decoders.inpainting import Interpolate
from sources.plucked_strings import PluckedStrings
from tests.chains import ROOT, chain_of, tables_with

KEY = Key(8)
BOTH = pytest.mark.parametrize("decoder", [Interpolate(), Autoregressive()], ids=repr)
PROCESS = np.array([1, -1.6, 1.2, -0.4])
"""Poles at 0.7 and 0.45 ± 0.6i: a broad resonance."""


def process(num_samples: int, key: Key = KEY) -> np.ndarray:
    """float64 [num_samples] of `PROCESS` with unit innovations, in its stationary law but for 1e-6."""
    return lfilter([1.0], PROCESS, key.child("innovations").normal(num_samples + 200))[200:]


def covariance(num_samples: int) -> np.ndarray:
    """Of as many samples of `PROCESS`, from its impulse response."""
    response = lfilter([1.0], PROCESS, np.eye(1, 1000)[0])
    return toeplitz([float(np.sum(response[:1000 - lag] * response[lag:])) for lag in range(num_samples)])


def best(samples: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The conditional mean by the rule of Gaussian vectors, out of the whole covariance matrix."""
    whole, known = covariance(samples.size), ~missing
    return whole[np.ix_(missing, known)] @ np.linalg.solve(whole[np.ix_(known, known)], samples[known])


def music(num_samples: int = 4000, sample_bits: int = 16) -> np.ndarray:
    (item,) = PluckedStrings(item_samples=num_samples, sample_bits=sample_bits).items([0], [KEY])
    assert isinstance(item.content, np.ndarray)
    return item.content


def packets(num_samples: int, samples: int = 32, rate: float = 0.1) -> np.ndarray:
    """bool [num_samples]: packets missing, each by itself."""
    return (KEY.child("losses").uniform(-(-num_samples // samples)) < rate).repeat(samples)[:num_samples]


def silenced(sound: np.ndarray, missing: np.ndarray) -> np.ndarray:
    return np.where(missing, 128 if sound.dtype == np.uint8 else 0, sound).astype(sound.dtype)


def error(sound: np.ndarray, restored: np.ndarray, missing: np.ndarray) -> float:
    return float(np.mean((sound[missing].astype(np.float64) - restored[missing]) ** 2))


@pytest.mark.parametrize("gaps", [(slice(20, 27),), (slice(0, 5),), (slice(33, 40),), (slice(0, 39),), (slice(1, 40),),
                                  (slice(3, 4), slice(6, 9), slice(10, 30, 2), slice(37, 39))], ids=str)
def test_missing_samples_are_the_conditional_mean(gaps: tuple[slice, ...]):
    """Catches equations set up wrong inside a gap, across gaps, and at the ends of the sound, where rows of them are cut off."""
    samples, missing = process(40), np.zeros(40, bool)
    for gap in gaps:
        missing[gap] = True
    exact = best(samples, missing)
    found = conditional_mean(np.where(missing, np.nan, samples), missing, PROCESS)
    assert np.abs(found - exact).max() < 1e-9
    other = conditional_mean(samples, missing, np.array([1, -1.2, 0.9, -0.4]))  # another process: the test would see it
    assert np.abs(other - exact).max() > 1e-3


def test_coefficients_are_learnt_around_the_gaps():
    """Catches errors that reach over a missing sample, which pull the fit towards noise: with a third lost it is as without."""
    samples, missing = process(30_000), packets(30_000, 20, 0.3)
    spoilt = np.where(missing, 1e6, samples)
    assert np.abs(burg(spoilt, ~missing, 3) - PROCESS).max() < 0.03
    assert np.abs(burg(np.where(missing, 0, samples), np.ones(30_000, bool), 3) - PROCESS).max() > 0.2, "zeros taken as samples"
    longer = burg(spoilt, ~missing, 12)
    assert longer.size == 13 and np.abs(longer[4:]).max() < 0.1


def test_the_filter_is_stable_whatever_the_sound():
    """Catches a fit whose process explodes: roots inside the unit circle for tones, steps, one run of few samples."""
    tone = 1000 * np.sin(0.3 * np.arange(200))
    for samples in (tone, np.sign(tone), tone * np.arange(200), np.full(200, 7.0), KEY.normal(200)):
        for received in (np.ones(200, bool), np.arange(200) < 12, packets(200, 8, 0.4)):
            fitted = burg(samples, received, 32)
            assert np.abs(np.roots(fitted)).max(initial=0) < 1
    assert burg(np.zeros(50), np.ones(50, bool), 8).tolist() == [1] and burg(tone, np.arange(200) % 2 == 0, 8).tolist() == [1]


def test_error_is_near_the_least_there_can_be():
    """Catches a fit that wastes what is known: on a process of order 3, within 10 % of its conditional mean, far from lines."""
    sums = np.zeros(4)
    for trial in range(12):
        samples, missing = 1000 * process(600, KEY.child(trial)), np.zeros(600, bool)
        missing[np.arange(60, 600, 60)[:, None] + np.arange(2)] = True
        sound = np.rint(samples).astype(np.int16)
        damaged = silenced(sound, missing)
        restored = [decoder.mend(damaged, missing, KEY) for decoder in (Autoregressive(order=8), Interpolate())]
        exact = damaged.astype(np.float64)
        exact[missing] = best(samples, missing)
        sums += [error(sound, np.asarray(one), missing) for one in (exact, *restored, damaged)]
    least, fitted, lines, nothing = sums
    assert abs(fitted / least - 1) < 0.1 and fitted < 0.5 * lines and fitted < 0.5 * nothing


@BOTH
@pytest.mark.parametrize("sample_bits", [8, 16])
def test_only_what_is_missing_changes(decoder: Decoder, sample_bits: int):
    """Catches received samples that are smoothed, arrays written to in place, and 8 bits that are taken about 0."""
    sound = music(sample_bits=sample_bits)
    missing = packets(sound.size, 8)
    damaged = silenced(sound, missing)
    damaged.flags.writeable = missing.flags.writeable = False
    mended = np.asarray(decoder.mend(damaged, missing, KEY))
    assert mended.dtype == sound.dtype and np.array_equal(mended[~missing], sound[~missing])
    assert error(sound, mended, missing) < 0.7 * error(sound, damaged, missing)
    assert np.array_equal(decoder.mend(sound, np.zeros(sound.size, bool), KEY), sound)


def test_lines_go_through_gaps():
    """Catches a line off by one sample; at an end the neighbour is held."""
    sound = np.array([0, 0, 30, 0, 0, 0, 70, -5, 0], np.int16)
    missing = np.array([1, 1, 0, 1, 1, 1, 0, 0, 1], bool)
    assert np.asarray(Interpolate().mend(sound, missing, KEY)).tolist() == [30, 30, 30, 40, 50, 60, 70, -5, -5]


@BOTH
def test_loud_sounds_do_not_wrap_round(decoder: Decoder):
    """Catches values past full scale cast as they are."""
    for dtype, scale, middle in ((np.int16, 32767, 0), (np.uint8, 127, 128)):
        square = np.clip(np.rint(1.3 * scale * np.sin(0.05 * np.arange(400))), -scale, scale)
        missing = np.zeros(400, bool)
        missing[20:28] = missing[146:155] = True
        sound = (square + middle).astype(dtype)
        mended = np.asarray(decoder.mend(silenced(sound, missing), missing, KEY)).astype(np.float64) - middle
        assert np.abs(mended - square)[missing].max() < 0.3 * scale


@BOTH
def test_where_all_or_nothing_is_known_there_is_no_failure(decoder: Decoder):
    """Catches singular systems and orders longer than the sound: no sample, one, few, silence, all of it missing."""
    for num_samples in (0, 1, 2, 3, 70):
        silence = np.zeros(num_samples, np.int16)
        assert np.array_equal(decoder.mend(silence, np.ones(num_samples, bool), KEY), silence)
        for known in {0, num_samples // 2, num_samples - 1} if num_samples else ():
            missing = np.ones(num_samples, bool)
            missing[known] = False
            assert np.array_equal(decoder.mend(silence, missing, KEY), silence)
            sound = np.where(missing, 0, 900).astype(np.int16)
            assert np.abs(np.asarray(decoder.mend(sound, missing, KEY))).max() <= 900


def test_far_away_samples_and_threads_change_nothing():
    """Catches a window that is the whole sound, and sums whose last bit depends on the number of threads."""
    sound, missing = music(), packets(4000)
    mended = np.asarray(Autoregressive().mend(silenced(sound, missing), missing, KEY))
    with threadpool_limits(1):
        assert np.array_equal(Autoregressive().mend(silenced(sound, missing), missing, KEY), mended)
    inside = slice(1000, 3000)
    part = np.asarray(Autoregressive().mend(silenced(sound, missing)[inside], missing[inside], KEY))
    assert np.array_equal(part[600:1400], mended[1600:2400]) and missing[1600:2400].any()


@pytest.mark.parametrize("content", [b"text", np.zeros((2, 2, 3), np.uint8), np.zeros(3, np.float32)], ids=type)
def test_what_is_no_sound_is_refused(content: bytes | np.ndarray):
    """Catches a crash far inside SciPy where the source and the decoder do not fit."""
    with pytest.raises(RequestError, match="mends sounds"):
        Autoregressive().mend(content, np.zeros(3, bool), KEY)


@pytest.mark.parametrize("tokenizer", ["pcm", "mu_law"])
def test_they_are_worth_something_in_a_chain(tokenizer: str):
    """Catches a mask that does not reach the decoder, and concealment that makes music worse than its silent holes."""
    tables = tables_with("tokenizers", tokenizer) | {"source": {"name": "plucked_strings", "item_samples": 4000}}
    tables |= {"channel": {"name": "packet_loss", "loss_rate": 0.1},
               "coder": {"name": "fixed_length", "packet_bits": 256, "header_bits": 0}}
    ratios = {}
    for name in ("none", "interpolate", "autoregressive"):
        chain = chain_of(tables | {"decoder": {"name": name}})
        outcomes = run(chain, send(chain, range(3), ROOT), 0, ROOT)
        ratios[name] = np.mean([one.measurement["si_sdr_db"] or 0 for one in outcomes])
        uses = [one.measurement["channel_uses_per_sample"] for one in outcomes]
        assert uses == pytest.approx([16 if tokenizer == "pcm" else 8] * 3, abs=0.01), "a little is the preamble"
    assert ratios["autoregressive"] > ratios["none"] + 2 and ratios["interpolate"] != ratios["none"]
