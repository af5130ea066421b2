"""A link of one's own, collected: counts against closed forms, stop rules, resume, and what must never read 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from channel_sim import theory
from channel_sim.checks import RequestError
from channel_sim.keys import Key
from reports.statistics import clopper_pearson
from scenarios.cli import main
from scenarios.monte_carlo import ErrorRates, Stop, collect, count_errors
from tests.laws import assert_rate


class Uncoded:
    """Uncoded BPSK or QPSK over AWGN, drawn from the seed that `reseed` was given; counts its calls."""

    __name__ = "uncoded"

    def __init__(self, bits_per_symbol: int = 1, block_bits: int = 20) -> None:
        self.bits_per_symbol, self.block_bits, self.calls, self.seeds = bits_per_symbol, block_bits, 0, []
        self.key = Key(0)

    def reseed(self, seed: int) -> None:
        self.key = Key(seed)
        self.seeds.append(seed)

    def __call__(self, batch_size: int, ebno_db: float) -> tuple[np.ndarray, np.ndarray]:
        """One antipodal dimension a bit: noise of variance N0/2 over energy Es a bit (BPSK) or Es/2 (QPSK)."""
        self.calls += 1
        bits = self.key.child("bits").integers(2, batch_size, self.block_bits)
        ebno = 10 ** (float(ebno_db) / 10)
        es, no = 1.0, 1 / (ebno * self.bits_per_symbol)
        amplitude = np.sqrt(es / self.bits_per_symbol)
        received = amplitude * (2 * bits - 1) + np.sqrt(no / 2) * self.key.child("noise").normal(batch_size, self.block_bits)
        return bits, (received > 0).astype(np.int64)


def curve(link: Uncoded, ebno_dbs: list[float], **options) -> list[ErrorRates]:
    return collect(link, ebno_dbs, **{"batch_size": 200, "max_batches": 25, "reseed": link.reseed, **options})


@pytest.mark.parametrize("bits_per_symbol", [1, 2])
def test_uncoded_rates_are_those_of_the_closed_form(bits_per_symbol: int):
    """Catches wrong counts, a wrong Eb/N0 handed over, and blocks counted as bits."""
    for point in curve(Uncoded(bits_per_symbol), [0.0, 4.0]):
        expected = theory.qam_bit_error_probability(2**bits_per_symbol, point.ebno_db)
        assert_rate(point.bit.errors, point.bit.count, expected=expected)
        assert_rate(point.block.errors, point.block.count, expected=1 - (1 - expected) ** 20)
        assert (point.bit.count, point.block.count, point.num_batches) == (100_000, 5_000, 25)
        assert point.bit.low < expected < point.bit.high and point.block.low < point.block.rate < point.block.high
        assert (point.bit.method, point.block.method) == ("bootstrap", "clopper-pearson")


def test_no_error_is_an_upper_limit_and_what_comes_after_is_not_simulated():
    """Catches sim_ber's BER 0: for a point without an error, and for points that it never looked at."""
    clean, skipped = curve(Uncoded(), [15.0, 16.0])
    assert clean.bit.rate is None and clean.bit.high == clean.block.high == 3 / 5_000
    assert "< 0.0006" in str(clean.bit) and clean.stop == "25 batches"
    assert (skipped.bit.rate, skipped.bit.high, skipped.bit.count, skipped.num_batches) == (None, None, 0, 0)
    assert str(skipped.bit) == "not simulated" and skipped.stop == "not simulated: no error at 15 dB"
    both = curve(Uncoded(), [15.0, 16.0], early_stop=False)
    assert [point.block.count for point in both] == [5_000, 5_000]


def test_a_target_ends_a_point_after_enough_batches():
    """Catches a rule that ends on a few batches, one that counts the wrong errors, and one that never ends."""
    (point,) = curve(Uncoded(), [2.0], num_target_block_errors=1, min_batches=7)
    assert point.num_batches == 7 and point.stop == "at least 1 block errors"
    (point,) = curve(Uncoded(), [2.0], num_target_bit_errors=3_000, min_batches=1)
    assert point.bit.errors >= 3_000 and point.stop == "at least 3000 bit errors"
    assert point.bit.errors * (1 - 1 / point.num_batches) < 3_300
    assert Stop(5, min_batches=20, num_target_bit_errors=1).reason(4, 9, 9) == ""


def test_dependent_blocks_are_not_counted_one_by_one():
    """Catches an interval that takes the streams of one fade, or bits of one block, for independent trials."""
    def shared_fade(batch_size, ebno_db):
        lost = Key(3).child(*np.atleast_1d(calls)).uniform(batch_size, 1, 1) < 0.1
        calls[0] += 1
        return np.zeros((batch_size, 8, 4)), np.zeros((batch_size, 8, 4)) + lost

    calls = [0]
    (auto,) = collect(shared_fade, [0.0], batch_size=10, max_batches=60)
    assert auto.block.method == "bootstrap"
    calls[0] = 0
    (naive,) = collect(shared_fade, [0.0], batch_size=10, max_batches=60, independent_blocks=True)
    assert naive.block.errors == auto.block.errors and naive.block.method == "clopper-pearson"
    assert auto.block.high - auto.block.low > 2 * (naive.block.high - naive.block.low)


@pytest.mark.parametrize("probability", [0.02, 0.2])
def test_clopper_pearson_covers_under_the_error_target(probability: float):
    """Catches a rule that spoils the interval: 2000 reruns must cover 95 % of the time, less four standard errors."""
    stop, covered = Stop(40, min_batches=2, num_target_block_errors=20), 0
    for rerun in range(2000):
        errors = np.cumsum((Key(11).child(rerun).uniform(40, 50) < probability).sum(axis=1))
        batches = next(n for n in range(1, 41) if stop.reason(n, 0, errors[n - 1]))
        low, high = clopper_pearson(int(errors[batches - 1]), 50 * batches)
        covered += low <= probability <= high
    assert covered / 2000 >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 2000)


def test_an_interrupted_collection_goes_on_as_if_it_were_not(tmp_path: Path):
    """Catches lost batches, batches drawn twice, and an outcome that depends on the interruption."""
    whole = curve(Uncoded(), [0.0, 4.0], out=tmp_path / "whole")

    class Dies(Uncoded):
        def __call__(self, batch_size: int, ebno_db: float) -> tuple[np.ndarray, np.ndarray]:
            if self.calls == 30:
                raise KeyboardInterrupt
            return super().__call__(batch_size, ebno_db)

    with pytest.raises(KeyboardInterrupt):
        curve(Dies(), [0.0, 4.0], out=tmp_path / "cut")
    rest = Uncoded()
    assert [(p.bit, p.block, p.stop) for p in curve(rest, [0.0, 4.0], out=tmp_path / "cut")] == \
        [(p.bit, p.block, p.stop) for p in whole]
    assert rest.calls == 2 * 25 - 30
    again = Uncoded()
    curve(again, [0.0, 4.0], out=tmp_path / "cut")
    assert again.calls == 0
    more = Uncoded()
    assert [p.num_batches for p in curve(more, [0.0, 4.0], out=tmp_path / "cut", max_batches=27)] == [27, 27] and more.calls == 4


def test_batches_meet_the_same_noise_at_every_point_and_never_the_same_twice():
    """Catches equal seeds of two batches, and points that draw apart."""
    link = Uncoded()
    curve(link, [0.0, 4.0])
    assert link.seeds[:25] == link.seeds[25:] and len(set(link.seeds)) == 25


def test_a_store_is_not_gone_on_with_where_noise_may_repeat(tmp_path: Path):
    """Catches the first batches of a seeded process counted twice, and a store that mixes two links."""
    curve(Uncoded(), [0.0], out=tmp_path, max_batches=3, reseed=None)
    with pytest.raises(RequestError, match="may draw them again"):
        curve(Uncoded(), [0.0], out=tmp_path, max_batches=4, reseed=None)
    assert curve(Uncoded(), [0.0], out=tmp_path, max_batches=3, reseed=None)[0].num_batches == 3
    with pytest.raises(RequestError, match="choose another folder"):
        curve(Uncoded(), [0.0], out=tmp_path, name="another")


def test_a_time_limit_says_so_and_the_next_call_goes_on(tmp_path: Path):
    """Catches an unfinished point that looks finished, and one never begun that reads 0."""
    points = curve(Uncoded(), [0.0, 4.0], out=tmp_path, max_seconds=0)
    assert [(p.num_batches, p.bit.rate, p.stop) for p in points] == [(0, None, "not simulated: time limit")] * 2
    assert [p.num_batches for p in curve(Uncoded(), [0.0, 4.0], out=tmp_path)] == [25, 25]


def test_status_and_report_read_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a store that the commands cannot read."""
    curve(Uncoded(), [0.0, 15.0], out=tmp_path)
    assert main(["status", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "bit_error_rate: 0.07" in printed and "no event" in printed and "stopped: 25 batches" in printed
    assert main(["report", str(tmp_path)]) == 0 and (tmp_path / "report.html").exists()


def test_progress_counts_batches():
    """Catches a bar that stands still or runs past its end."""
    seen: list[tuple[int, int]] = []
    curve(Uncoded(), [0.0, 4.0], max_batches=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 6), (1, 6), (2, 6), (3, 6), (4, 6), (5, 6), (6, 6), (6, 6)]


@pytest.mark.parametrize(("b", "b_hat"), [(np.zeros((2, 3)), np.zeros((2, 4))), (np.zeros(3), np.zeros(3)), ([[]], [[]])])
def test_what_cannot_be_counted_is_refused(b: np.ndarray, b_hat: np.ndarray):
    """Catches broadcasting, which would count errors that are none."""
    with pytest.raises(RequestError, match="one shape"):
        count_errors(b, b_hat)


def test_soft_bits_are_decided_and_nan_is_an_error():
    """Catches the other sign of logits, and a NaN that compares as right."""
    assert count_errors([[1, 0]], [[0.3, -2.0]], soft=True) == ((0.0, 2.0), (0.0, 1.0))
    assert count_errors([[1, 0]], [[-0.3, np.nan]], soft=True) == ((2.0, 2.0), (1.0, 1.0))


@pytest.mark.sionna
def test_a_sionna_link_is_collected_as_it_is():
    """Catches a call that sim_ber would not make, tensors that are not read, a trace a point, and noise that is not reseeded."""
    import tensorflow as tf
    from sionna.phy import config
    from sionna.phy.channel import AWGN
    from sionna.phy.mapping import BinarySource, Demapper, Mapper
    from sionna.phy.utils import ebnodb2no

    source, mapper, demapper, channel = BinarySource(), Mapper("qam", 2), Demapper("app", "qam", 2), AWGN()
    traces = []

    @tf.function
    def mc_fun(batch_size, ebno_db):
        traces.append(1)
        no = ebnodb2no(ebno_db, 2, 1.0)
        bits = source([batch_size, 64])
        return bits, demapper(channel(mapper(bits), no), no)

    def reseed(seed):
        config.seed = seed

    def link():
        return collect(mc_fun, [0.0, 3.0], batch_size=500, max_batches=20, soft_estimates=True, name="qpsk", reseed=reseed)

    first, second = link(), link()
    for point in first:
        assert_rate(point.bit.errors, point.bit.count, expected=theory.qam_bit_error_probability(4, point.ebno_db))
    assert [point.bit for point in first] == [point.bit for point in second] and len(traces) == 1
