"""The link abstraction against the bit-exact link, brute-force integrals and Sionna's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.stats import binom, norm

from channel_sim.abstraction import BlerTable, code_use
from channel_sim.bler_measurement import fit_mappings, measure_table, wrong_blocks
from channel_sim.block_errors import BlockErrorTable, CodeUse, read_table, shipped_tables, write_table
from channel_sim.checks import RequestError
from channel_sim.effective_snr import Mapping, effective_snr_db, information_curve
from channel_sim.keys import Key
from channel_sim.link import CodedLink
from channel_sim.sionna_tables import scheme, sionna_table
from channel_sim.types import Packets
from tests.laws import assert_rate

USE = CodeUse("ldpc", 512, 1024, "qpsk", (("ldpc_backend", "numba"), ("num_iterations", 20)))
SHARED: dict[str, Any] = {"fading": "rayleigh_block", "fading_block_symbols": 64, "esno_db": 6.0}


def table_of(rates: list[float], esno_db: list[float], num_blocks: int = 10_000, **keys: Any) -> BlockErrorTable:
    blocks = np.full(len(rates), num_blocks)
    errors = np.rint(np.array(rates) * blocks).astype(np.int64)
    return BlockErrorTable(USE, np.array(esno_db), errors / blocks, errors, blocks, **keys)


def packets_of(sizes: list[int], header_bits: int = 0) -> Packets:
    width = max(sizes, default=0)
    bits = Key(3).integers(2, len(sizes), width) * (np.arange(width) < np.array(sizes, int)[:, None])
    return Packets(bits=bits.astype(np.uint8), num_bits=np.array(sizes, np.int32), order=np.zeros(0, np.int32),
                   bounds=np.zeros(len(sizes) + 1, np.int32), header=np.zeros((len(sizes), 3), np.int32), header_bits=header_bits)


# ---------------------------------------------------------------- information and effective SNR


def bicm_information(bits: int, esno_db: float) -> float:
    """Brute force over the square constellation's rail: adaptive quadrature of h(b) - h(b | y) for each bit."""
    levels = np.arange(1.0 - 2 ** bits, 2 ** bits, 2)
    levels *= np.sqrt(10 ** (esno_db / 10) / np.mean(levels ** 2))  # half of Es, in noise of variance 1/2 a rail: 1 in all
    labels = [f"{index ^ (index >> 1):0{bits}b}" for index in range(2 ** bits)]
    total = 0.0
    for bit in range(bits):
        ones = np.array([label[bit] == "1" for label in labels])

        def missing(y: float) -> float:
            density = norm.pdf(y - levels)
            p = density[ones].sum() / density.sum() if density.sum() > 0 else 0.0
            entropy = -sum(q * np.log2(q) for q in (p, 1 - p) if q > 0)
            return float(density.mean() * entropy)

        total += 1 - quad(missing, levels[0] - 9, levels[-1] + 9, limit=400, points=levels)[0]
    return total / bits


@pytest.mark.parametrize(("bits_per_symbol", "esno_db"), [(2, -3.3), (2, 4.1), (4, 2.7), (4, 9.4), (6, 13.6)])
def test_information_is_that_of_an_integral(bits_per_symbol: int, esno_db: float):
    """Catches a wrong share of the noise, labels that are not Gray, and knots too far apart."""
    assert information_curve(bits_per_symbol).information(np.array(esno_db)) == pytest.approx(
        bicm_information(bits_per_symbol // 2, esno_db), abs=2e-5)


def test_antipodal_symbols_have_all_of_the_energy():
    """Catches BPSK on one rail that is given half of Es."""
    curves = [information_curve(bits) for bits in (1, 2)]
    at = np.array([-6.0, 0.0, 5.0])
    assert curves[0].information(at) == pytest.approx(curves[1].information(at + 10 * np.log10(2)), abs=1e-6)


def test_effective_snr_is_the_mean_over_symbols():
    """Catches fades that are dealt to the wrong block where they straddle two: every symbol by itself, by a loop."""
    snr_db, symbols_a_fade, symbols_a_block, num_blocks = 8 * Key(1).normal(40), 7, 30, 9
    mapping, curve = Mapping(slope=1.2, beta_db=-0.7), information_curve(4)
    found = effective_snr_db(snr_db, symbols_a_fade=symbols_a_fade, symbols_a_block=symbols_a_block, num_blocks=num_blocks,
                             bits_per_symbol=4, mapping=mapping)
    for block in range(num_blocks):
        seen = [snr_db[symbol // symbols_a_fade] for symbol in range(block * symbols_a_block, (block + 1) * symbols_a_block)]
        mean = np.mean([float(curve.information(np.array(1.2 * one + 0.7))) for one in seen])
        assert found[block] == pytest.approx((float(curve.inverse(np.array(mean))) - 0.7) / 1.2, abs=1e-9)


@pytest.mark.parametrize("mapping", [Mapping(), Mapping(1.3, -1.0)])
def test_a_block_within_one_fade_has_its_snr(mapping: Mapping):
    """Catches a mapping that does not undo itself."""
    snr_db = np.array([-3.0, 0.5, 2.25, 7.1])
    found = effective_snr_db(snr_db, symbols_a_fade=64, symbols_a_block=64, num_blocks=4, bits_per_symbol=2, mapping=mapping)
    assert found == pytest.approx(snr_db, abs=1e-6)


# ---------------------------------------------------------------- tables


def test_between_points_the_probit_is_linear_and_past_them_the_slope_goes_on():
    """Catches interpolation of plain rates (a factor of 3 in a waterfall), and a floor or a cliff past the last point."""
    esno_db = [0.0, 0.5, 1.0, 1.5]
    table = table_of([float(norm.sf(2 * at - 0.5)) for at in esno_db], esno_db, 10 ** 9)
    for at in (-2.0, 0.25, 0.77, 1.5, 2.0, 2.5):
        assert table.probability(at) == pytest.approx(norm.sf(2 * at - 0.5), rel=1e-4)
    assert (table.last_db, table.end_db) == (1.5, 2.5)
    assert table.probability(40.0) == table.probability(2.5) > 0
    assert table.esno_at(0.1) == pytest.approx((norm.isf(0.1) + 0.5) / 2, abs=1e-6)


def test_chance_rises_are_pooled_and_points_without_a_rate_left_out():
    """Catches a BLER that rises with the SNR, and errorless points read as a rate of 0."""
    table = table_of([1, 1, 0.5, 0.52, 0.1, 0.01, 0, 0], [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], 1000)
    rates = table.probability(np.linspace(-1, 2, 301))
    assert np.all(np.diff(rates) <= 0) and np.all(rates > 0)
    assert table.probability(0.25) == pytest.approx(0.51, abs=1e-6) and table.last_db == 0.5
    with pytest.raises(ValueError, match="2 points"):
        table_of([0.3, 0, 0], [1, 2, 3])


def test_the_interval_is_that_of_the_counts():
    """Catches limits of the wrong side or level: P(at least as many | low) = P(at most as many | high) = 2.5 %."""
    table = table_of([0.9, 0.13, 0.002], [0.0, 1.0, 2.0], 1000)
    low, high = table.interval(1.0) or (0, 0)
    assert binom.sf(129, 1000, low) == pytest.approx(0.025) and binom.cdf(130, 1000, high) == pytest.approx(0.025)
    between = table.interval(1.5) or (0, 0)
    assert between[0] < table.probability(1.5) < between[1] < high
    assert table.interval(2.1) is None and sionna_table(100, 308 / 1024, 332, "qpsk").interval(0.0) is None


def test_fitted_mappings_are_mixed_by_the_logarithm_of_the_fades():
    """Catches the mapping of another number of fades, and one for a block within one fade."""
    two, eight = Mapping(0.9, -1.0), Mapping(1.5, 0.2)
    table = table_of([0.9, 0.1], [0, 1], mappings=((2.0, two), (8.0, eight)))
    assert table.shares(1.0) == table.shares(0.2) == [(1.0, Mapping())]
    assert table.shares(2.0) == [(1.0, two)] and table.shares(100.0) == [(1.0, eight)]
    assert table.shares(4.0) == [(pytest.approx(0.5), two), (pytest.approx(0.5), eight)]
    assert table_of([0.9, 0.1], [0, 1]).shares(16.0) == [(1.0, Mapping())]


def test_a_table_is_read_as_it_was_written(tmp_path: Path):
    """Catches counts, settings or mappings that are lost on the way."""
    table = table_of([0.9, 0.1], [0, 1.5], mappings=((2.0, Mapping(0.9, -1.0)),), origin={"decoder": "test"})
    write_table(table, tmp_path / "t.json")
    copy = read_table(tmp_path / "t.json")
    assert (copy.use, copy.mappings, copy.origin) == (table.use, table.mappings, table.origin)
    for name in ("esno_db", "rates", "block_errors", "num_blocks"):
        assert np.array_equal(getattr(copy, name), getattr(table, name))


@pytest.mark.parametrize(("change", "word"), [
    ({"format": "another"}, "format"), ({"esno_db": [1.0, 0.0]}, "increase"), ({"block_errors": [900, 1]}, "increase|between"),
    ({"num_blocks": [10_000]}, "count"), ({"block_errors": [90_000, 1000]}, "between"), ({"use": {}}, "settings")])
def test_a_damaged_table_is_refused(tmp_path: Path, change: dict[str, Any], word: str):
    """Catches a file that is taken for a table, with errors that do not say why."""
    write_table(table_of([0.9, 0.1], [0, 1.5]), tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text()) | change
    if change == {"block_errors": [900, 1]}:
        document["esno_db"] = [0.0]
    (tmp_path / "t.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=word):
        read_table(tmp_path / "t.json")


def test_shipped_tables_were_counted_through_their_waterfall():
    """Catches a shipped table without its statistics, too short, or of another code than its name says."""
    assert shipped_tables()
    for path in shipped_tables():
        table = read_table(path)
        assert table.rates[0] > 0.99 and table.rates[-1] <= 2e-3 and table.block_errors is not None
        assert np.all(table.block_errors >= 100) and np.all(np.diff(table.esno_db) < 0.13)
        assert path.stem == f"{table.use.code}_{table.use.block_bits}_{table.use.code_bits}_{table.use.modulation}"
        assert table.origin["decoder"] and table.origin["versions"]["numpy"] and len(table.mappings) == 5


# ---------------------------------------------------------------- Sionna's tables


def test_sionna_tables_are_read_without_their_zeros():
    """Catches 'not simulated' read as error-free: the last point is the last rate above 0 (files of sionna-no-rt 1.2)."""
    table = sionna_table(100, 308 / 1024, 332, "qpsk")
    assert table.rates[-1] > 0 and table.esno_db[0] == -5.0 and table.num_blocks is None
    at = np.argmin(np.abs(table.esno_db - 0.357143))
    assert 1e-3 < table.rates[at] < 1e-2  # 0.0057 and less in the two files that hold it
    assert 0.2 < table.probability(-1.5) < 0.4


@pytest.mark.parametrize(("block_bits", "code_rate", "modulation", "words"), [
    (512, 308 / 1024, "qpsk", ("block_bits = 512", "24, 100, 500")),
    (100, 0.5, "qpsk", ("code_rate = 0.5", "526/1024")),
    (2000, 948 / 1024, "qam256", ("1 point in the waterfall", "2 are needed")),
    (100, 0.5, "bpsk", ("code_rate = 0.5", "none")),
])
def test_what_sionna_lacks_is_named(block_bits: int, code_rate: float, modulation: str, words: tuple[str, ...]):
    """Catches a block error rate of infinity, or a guess, for a scheme that is not in the tables."""
    with pytest.raises(RequestError) as refusal:
        sionna_table(block_bits, code_rate, 0, modulation)
    assert all(word in str(refusal.value) for word in words)


@pytest.mark.sionna
def test_schemes_are_those_of_sionna():
    """Catches a code rate booked under another scheme: all that Sionna decodes, by its own function."""
    from sionna.phy.nr.utils import decode_mcs_index

    for category, index, count in ((1, 1, 29), (1, 2, 28), (1, 3, 29), (1, 4, 27), (0, 1, 28), (0, 2, 28)):
        for mcs in range(count):
            bits, rate = decode_mcs_index(mcs, table_index=index, is_pusch=category == 0, transform_precoding=category == 0)
            assert scheme(category, index, mcs) == (int(bits), pytest.approx(1024 * float(rate), abs=0.01))


# ---------------------------------------------------------------- the channel


@pytest.mark.parametrize("keys", [{}, {"crc": "crc6", "ebno_db": 0.7, "esno_db": None}, {"crc": "crc24a", **SHARED}])
def test_it_charges_what_the_link_charges(keys: dict[str, Any]):
    """Catches overheads that the abstraction leaves out: ledgers equal in every field, for every remainder."""
    keys = {"esno_db": 1.0} | keys
    packets = packets_of([0, 1, 400, 496, 497, 1100, 3000], header_bits=9)
    assert BlerTable(**keys).charge(packets) == CodedLink(**keys).charge(packets)
    assert BlerTable(**keys).side_uses(77) == CodedLink(**keys).side_uses(77)
    observation, = BlerTable(**keys).transmit([packets], [Key(1)])
    assert observation.ledger == CodedLink(**keys).charge(packets)


def test_blocks_fail_at_the_rate_of_the_table():
    """Catches a draw that is shared between blocks, or turned round; and a packet that survives a failed block."""
    channel = BlerTable(esno_db=1.1)
    packets = packets_of([496 + 512] * 5_000)
    observation, = channel.transmit([packets], [Key(1)])
    failed, expected = observation.state.failed, float(channel.block_error_probability(1.1))
    assert failed.size == 10_000 and 0.1 < expected < 0.6
    assert_rate(int(failed.sum()), failed.size, expected)
    assert np.array_equal(observation.lost, failed.reshape(-1, 2).any(axis=1))
    detection, reception = channel.detect(observation), channel.receive(observation)
    assert (detection.num_blocks, detection.block_errors) == (10_000, int(failed.sum()))
    assert np.array_equal(reception.lost, observation.lost) and reception.certain[~reception.lost].all()
    assert np.array_equal(reception.hard_bits[~reception.lost], packets.bits[~reception.lost])


def test_items_without_packets_or_bits_pass():
    """Catches a reduction over nothing."""
    for sizes in ([], [0], [0, 0, 700]):
        observation, = BlerTable(esno_db=1.0).transmit([packets_of(sizes)], [Key(1)])
        assert observation.lost.shape == (len(sizes),)


def test_losses_are_nested_in_the_snr_and_stable_in_the_number_of_packets():
    """Catches draws that depend on the SNR or on what follows: common random numbers."""
    few, many = packets_of([496] * 50), packets_of([496] * 400)
    lost = {esno_db: BlerTable(**SHARED | {"esno_db": esno_db}).transmit([many], [Key(2)])[0].lost for esno_db in (4.0, 6.0)}
    assert lost[6.0].sum() < lost[4.0].sum() and not (lost[6.0] & ~lost[4.0]).any()
    assert np.array_equal(BlerTable(**SHARED).transmit([few], [Key(2)])[0].lost, lost[6.0][:50])


def test_it_meets_the_fades_of_the_link():
    """Catches fades of another key: the SNRs of both are equal, fade by fade, under every flat law."""
    for fading in ("awgn", "rayleigh_block", "rician_block", "rayleigh"):
        keys = SHARED | {"fading": fading, "esno_db": 2.5}
        drawn = BlerTable(**keys).transmit([packets_of([496] * 12)], [Key(4)])[0].state.snr_db
        link = CodedLink(**keys)
        assert np.allclose(drawn, link.propagation.carry(np.ones(12 * 512, complex), link.no, Key(4)).snr_db, atol=1e-9)


@pytest.mark.parametrize(("keys", "words"), [
    ({"esno_db": 20.0}, ("esno_db", "20", "ends at", "--lowest-rate")),
    ({"esno_db": 1.0, "block_bits": 300}, ("ldpc (300, 600)", "ldpc (512, 1024), qpsk", "train")),
    ({"esno_db": 1.0, "num_iterations": 7}, ("num_iterations = 7", "project")),
    ({"esno_db": 1.0, "crc": "none"}, ("crc", "crc16")),
    ({"esno_db": 1.0, "ebno_db": 1.0}, ("esno_db", "ebno_db", "both")),
    ({"esno_db": 1.0, "table": "/no/such.json"}, ("table", "/no/such.json")),
    ({"esno_db": 1.0, "table": "sionna"}, ("sionna", "code_rate = 0.5")),
    ({"esno_db": 1.0, "table": "sionna", "num_iterations": 7}, ("num_iterations = 20", "7")),
    ({"esno_db": 1.0, "code_rate": 0.1}, ("code_rate", "0.1")),
])
def test_what_cannot_be_is_refused_by_name(keys: dict[str, Any], words: tuple[str, ...]):
    """Catches an error rate that is made up where there is none."""
    with pytest.raises(ValidationError) as refusal:
        BlerTable(**keys)
    assert all(word in str(refusal.value) for word in words)


def test_a_table_of_another_code_is_refused(tmp_path: Path):
    """Catches a file that is used for a code it does not describe."""
    write_table(table_of([0.9, 0.1], [0, 1.5]), tmp_path / "t.json")
    assert BlerTable(esno_db=1.0, table=str(tmp_path / "t.json")).digests()["table"]
    with pytest.raises(ValidationError, match="qam16"):
        BlerTable(esno_db=1.0, table=str(tmp_path / "t.json"), modulation="qam16")


def test_over_fading_a_good_fade_is_no_error():
    """Catches the limit of AWGN applied to fades, most of which lie past the end of the table."""
    lost = BlerTable(**SHARED | {"esno_db": 30.0}).transmit([packets_of([496] * 300)], [Key(1)])[0].lost
    assert lost.mean() < 0.01


# ---------------------------------------------------------------- against the bit-exact link


@pytest.mark.sionna
def test_measuring_counts_what_the_link_does():
    """Catches a count of other blocks than were sent: a small code, counted again by hand at one point of the table."""
    link = CodedLink(block_bits=24, esno_db=9.0, crc="crc6")
    told: list[float] = []
    table = measure_table(link, step_db=1.0, lowest_rate=0.004, least_errors=30, progress=lambda at, *counts: told.append(at))
    assert table.num_blocks is not None and sorted(told) == table.esno_db.tolist() and table.use == code_use(link)
    assert table.rates[0] >= 0.999 and table.rates[-1] <= 0.004 < table.rates[-2] and np.all(table.num_blocks >= 1000)
    at = int(np.argmin(np.abs(table.rates - 0.3)))
    again = wrong_blocks(link.model_copy(update={"esno_db": float(table.esno_db[at])}), 3000, Key(99))
    assert_rate(int(again.sum()), again.size, float(table.rates[at]))
    with pytest.raises(RequestError, match="lowest_rate"):
        fit_mappings(link, table_of([0.9, 0.1], [0, 1]))
    fitted = fit_mappings(link, table, num_blocks=400)
    assert [fades for fades, _ in fitted.mappings] == [2.0, 4.0, 8.0, 12.0]  # of 24 symbols; 16 fades are not to be had
    runs = fitted.origin["fading_runs"]
    assert [(run["num_blocks"], run["block_errors"] > 0) for run in runs[:2]] == [(200, True), (400, True)]


@pytest.mark.slow
@pytest.mark.sionna
@pytest.mark.parametrize("esno_db", [0.81, 1.19, 1.44])
def test_between_its_points_the_table_is_the_link(esno_db: float):
    """Catches interpolation that is off in the waterfall: fresh bit-exact blocks at SNRs off the grid.

    The table's own points are uncertain by 10 %; 0.02 dB is what that is worth.
    """
    channel = BlerTable(esno_db=esno_db)
    wrong = np.concatenate([wrong_blocks(channel.link, 200, Key(41).child(part)) for part in range(60)])
    limits = [float(channel.block_error_probability(esno_db + shift)) for shift in (0.02, -0.02)]
    assert binom.cdf(wrong.sum(), wrong.size, limits[0]) > 1e-4 and binom.sf(wrong.sum() - 1, wrong.size, limits[1]) > 1e-4
    far = [float(channel.block_error_probability(esno_db + shift)) for shift in (0.1, -0.1)]
    assert binom.sf(wrong.sum() - 1, wrong.size, far[0]) < 1e-4 and binom.cdf(wrong.sum(), wrong.size, far[1]) < 1e-4


def autocorrelation(lost: np.ndarray, lag: int) -> float:
    centred = lost - lost.mean()
    return float((centred[lag:] * centred[:-lag]).mean() / centred.var())


@pytest.mark.slow
@pytest.mark.sionna
@pytest.mark.parametrize("keys", [
    {"fading_block_symbols": 2048, "esno_db": 8.0},  # one fade, four packets: a burst
    {"fading_block_symbols": 96, "esno_db": 6.0},  # between two numbers of fades that were fitted
    {"fading": "rician_block", "rician_k_db": 3.0, "fading_block_symbols": 128, "esno_db": 4.5},  # another law than was fitted
])
def test_losses_over_fading_are_those_of_the_link(keys: dict[str, Any]):
    """Catches bursts that are missing, shifted or of another length: the same packets over the same fades, both ways."""
    keys = {"fading": "rayleigh_block"} | keys
    packets, item_keys = [packets_of([496] * 200)] * 60, [Key(51).child(item) for item in range(60)]
    link, channel = CodedLink(**keys), BlerTable(**keys)
    exact = np.concatenate([link.receive(one).lost for one in link.transmit(packets, item_keys)])
    drawn = np.concatenate([one.lost for one in channel.transmit(packets, item_keys)])
    agree = float(np.mean(exact == drawn))
    assert drawn.mean() == pytest.approx(exact.mean(), rel=0.12)
    for lag in (1, 2, 3, 5):
        assert autocorrelation(drawn.astype(float), lag) == pytest.approx(autocorrelation(exact.astype(float), lag), abs=0.04)
    assert agree > 0.93
    other, = channel.transmit(packets[:1], [Key(52)])  # negative control: other fades do not agree
    assert np.mean(other.lost == exact[:200]) < agree
