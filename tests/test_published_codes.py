"""Block error rates of the coded link against published ones: Sionna's notebooks and AFF3CT's references, over AWGN."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import fisher_exact

from channel_sim.link import CodedLink
from tests.laws import assert_rate
from tests.link_packets import DELIVER, random_packets, send

pytestmark = pytest.mark.sionna


def block_errors(channel: CodedLink, num_blocks: int) -> int:
    """Of so many blocks filled by one packet each."""
    detection = send(channel, random_packets([channel.block_bits - channel.crc_bits] * num_blocks))[1]
    assert detection.num_blocks == num_blocks and detection.block_errors is not None
    return detection.block_errors


def notebook(k: int, ebno_db: float, **settings: Any) -> CodedLink:
    """Rate 1/2 on QPSK."""
    unchecked = {"crc": "crc6"} if settings.get("code") == "polar" else DELIVER  # hard decisions cannot go without a CRC
    return CodedLink(block_bits=k, ebno_db=ebno_db, **{**unchecked, **settings})


def test_ldpc_block_error_rate_is_sionnas():
    """Catches any loss in the coded link: belief propagation of 20 iterations, n = 1000, 1.5 dB."""
    assert_rate(block_errors(notebook(500, 1.5, ldpc_backend="sionna"), 3000), 3000, expected=7.443e-2)


@pytest.mark.slow
@pytest.mark.parametrize("ldpc_backend", ["sionna", "numba"])
@pytest.mark.parametrize(("k", "ebno_db", "expected"), [(64, 2.0, 0.1547), (128, 2.5, 1.811e-2), (256, 2.0, 2.336e-2),
                                                        (500, 1.75, 1.885e-2), (2000, 1.5, 4.91e-3)])
def test_ldpc_block_error_rates_are_sionnas(k: int, ebno_db: float, expected: float, ldpc_backend: str):
    """Catches a loss that shows at one length only, and min-sum that is worse than belief propagation."""
    assert_rate(block_errors(notebook(k, ebno_db, ldpc_backend=ldpc_backend), 20_000), 20_000, expected=expected)


@pytest.mark.parametrize(("ebno_db", "num_blocks", "expected"), [
    (2.0, 4000, 0.1026), pytest.param(3.0, 60_000, 7.81e-3, marks=pytest.mark.slow),
    pytest.param(4.0, 300_000, 1.43e-4, marks=pytest.mark.slow)])
def test_polar_block_error_rate_is_sionnas(ebno_db: float, num_blocks: int, expected: float):
    """Catches a list, CRC or frozen set that is not 5G's: (64, 128), eight paths."""
    assert_rate(block_errors(notebook(64, ebno_db, code="polar", list_size=8), num_blocks), num_blocks, expected=expected)


@pytest.mark.parametrize(("ebno_db", "num_blocks", "expected"), [
    (2.0, 3000, 0.1850), pytest.param(3.0, 20_000, 0.07335, marks=pytest.mark.slow),
    pytest.param(4.0, 40_000, 0.0306, marks=pytest.mark.slow)])
def test_convolutional_block_error_rate_is_sionnas(ebno_db: float, num_blocks: int, expected: float):
    """Catches other polynomials, a tail that is ended, and a decoder that loses: (64, 128), constraint length 8."""
    assert_rate(block_errors(notebook(64, ebno_db, code="convolutional"), num_blocks), num_blocks, expected=expected)


@pytest.mark.parametrize(("ebno_db", "num_blocks", "expected"), [
    (2.0, 3000, 0.09225), pytest.param(3.0, 40_000, 9.51e-3, marks=pytest.mark.slow),
    pytest.param(4.0, 100_000, 6.76e-4, marks=pytest.mark.slow)])
def test_turbo_block_error_rate_is_sionnas(ebno_db: float, num_blocks: int, expected: float):
    """Catches another interleaver, puncturing or scaling: (64, 128), constraint length 4, eight iterations."""
    assert_rate(block_errors(notebook(64, ebno_db, code="turbo", num_iterations=8), num_blocks), num_blocks, expected=expected)


@pytest.mark.slow
@pytest.mark.parametrize(("ebno_db", "errors", "blocks"), [(1.25, 105, 450), (1.5, 101, 1621), (1.75, 100, 5916)])
def test_ldpc_block_error_rate_is_that_of_another_simulator(ebno_db: float, errors: int, blocks: int):
    """Catches what Sionna and its figures have in common: AFF3CT's 5G LDPC (1024, 512), BPSK, 20 flooding iterations, sum-product.

    Source: AFF3CT error_rate_references, LDPC_N1024_K512_flooding_SPA_i20_5G.txt: frame errors and frames of each point.
    """
    num_blocks = 6000
    ours = block_errors(notebook(512, ebno_db, modulation="bpsk", ldpc_backend="sionna"), num_blocks)
    assert fisher_exact([[ours, num_blocks - ours], [errors, blocks - errors]]).pvalue > 1e-4
    # negative control: a quarter of a decibel shows
    weaker = block_errors(notebook(512, ebno_db - 0.25, modulation="bpsk", ldpc_backend="sionna"), num_blocks)
    assert fisher_exact([[weaker, num_blocks - weaker], [errors, blocks - errors]]).pvalue < 1e-4
