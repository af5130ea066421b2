"""CRCs of 5G: published check values, the polynomial division they stand for, and what they must detect."""

import numpy as np
import pytest

from channel_sim.crc import CRC_BITS, crc, crc_of_flips
from channel_sim.keys import Key
from tests.laws import assert_rate

NAMES = [name for name in CRC_BITS if name != "none"]
EXPONENTS = {  # 3GPP TS 38.212, section 5.1: the generator polynomials as printed
    "crc6": (6, 5, 0),
    "crc11": (11, 10, 9, 5, 0),
    "crc16": (16, 12, 5, 0),
    "crc24a": (24, 23, 18, 17, 14, 11, 10, 7, 6, 5, 4, 3, 1, 0),
    "crc24b": (24, 23, 6, 5, 1, 0),
    "crc24c": (24, 23, 21, 20, 17, 15, 13, 12, 8, 4, 2, 1, 0),
}


def as_number(bits: np.ndarray) -> int:
    return int("0" + "".join(map(str, bits)), 2)


def random_bits(num_bits: int, *labels: str | int) -> np.ndarray:
    return (Key(1).child(*labels).uniform(num_bits) < 0.5).astype(np.uint8)


def remainder(bits: np.ndarray, exponents: tuple[int, ...]) -> int:
    """x^L · bits(x) modulo the generator, by long division over GF(2) with Python's integers."""
    length, generator = exponents[0], sum(1 << exponent for exponent in exponents)
    dividend = as_number(bits) << length
    while dividend.bit_length() > length:
        dividend ^= generator << (dividend.bit_length() - length - 1)
    return dividend


@pytest.mark.parametrize("name, check", [("crc6", 0x15), ("crc11", 0x5CA), ("crc16", 0x31C3), ("crc24a", 0xCDE703),
                                         ("crc24b", 0x23EF52), ("crc24c", 0xF48279)])
def test_published_check_values(name, check):
    """Catches a wrong generator, start value or bit order.

    Source: G. Cook, "Catalogue of parametrised CRC algorithms" (CRC-16/XMODEM, CRC-24/LTE-A, CRC-24/LTE-B); D. Bahr, CRC++ (NR).
    """
    assert as_number(crc(np.unpackbits(np.frombuffer(b"123456789", np.uint8)), name)) == check


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_bits", [0, 1, 5, 23, 24, 25, 100, 1000])
def test_the_check_is_the_remainder_of_polynomial_division(name, num_bits):
    """Catches an error that only shows for messages shorter than the register or longer than a byte."""
    bits = random_bits(num_bits, "message", num_bits)
    check = crc(bits, name)
    assert check.dtype == np.uint8 and check.shape == (CRC_BITS[name],)
    assert as_number(check) == remainder(bits, EXPONENTS[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_message_with_its_check_has_check_0(name):
    """Catches check bits in the wrong order: a receiver divides the whole word."""
    bits = random_bits(77, "own")
    assert not crc(np.concatenate([bits, crc(bits, name)]), name).any()


@pytest.mark.parametrize("name", NAMES)
def test_the_code_is_linear(name):
    """Catches a start value or final inversion: the channel checks error patterns alone."""
    one, other = random_bits(200, "one"), random_bits(200, "other")
    assert np.array_equal(crc(one ^ other, name), crc(one, name) ^ crc(other, name))
    assert not crc(np.zeros(200, np.uint8), name).any()


def test_no_crc_has_no_bits():
    """Catches a check of one bit, or a crash, where none is asked for."""
    assert crc(random_bits(10, "none"), "none").shape == (0,)


def syndromes(name: str, num_bits: int) -> np.ndarray:
    """int [num_bits]: the check of each single-bit error in a word of `num_bits`, check bits included."""
    return np.array([as_number(crc(row, name)) for row in np.eye(num_bits, dtype=np.uint8)])


@pytest.mark.parametrize("name, num_bits", [("crc6", 63), ("crc11", 600), ("crc16", 600), ("crc24a", 600), ("crc24b", 600),
                                            ("crc24c", 600)])
def test_all_single_and_double_errors_are_detected(name, num_bits):
    """Catches a generator without a constant term or of small order: two bits whose checks are equal cancel."""
    single = syndromes(name, num_bits)
    assert np.all(single != 0) and np.unique(single).size == num_bits


def test_negative_control_double_errors_past_the_order_of_the_generator():
    """The test above must see a miss: x^63 = 1 modulo the generator of crc6, so bits 63 apart cancel."""
    single = syndromes("crc6", 64)
    assert single[0] == single[63] and np.unique(single).size == 63


@pytest.mark.parametrize("name", NAMES)
def test_all_bursts_up_to_the_length_of_the_check_are_detected(name):
    """Catches a register that is too short; every burst pattern for short checks, many for long ones, at every place."""
    length = CRC_BITS[name]
    inner = np.arange(2**(length - 1)) if length <= 11 else Key(2).integers(2**(length - 1), 300)
    for pattern in inner[::max(1, inner.size // 300)]:
        burst = np.array([1, *(int(bit) for bit in f"{pattern:0{length - 1}b}")], np.uint8)
        for start in range(0, 8):
            assert crc(np.concatenate([np.zeros(start, np.uint8), burst, np.zeros(9, np.uint8)]), name).any()


@pytest.mark.parametrize("name", NAMES)
def test_negative_control_a_burst_that_is_the_generator_passes(name):
    """The shortest undetected burst is one bit longer than the check: the generator itself."""
    length = CRC_BITS[name]
    burst = np.isin(np.arange(length, -1, -1), EXPONENTS[name]).astype(np.uint8)
    assert burst.size == length + 1 and not crc(np.concatenate([burst, np.zeros(9, np.uint8)]), name).any()


def test_random_errors_pass_as_often_as_the_length_says():
    """Catches a check that wastes bits: random patterns pass crc6 with probability 1/64."""
    passed = sum(not crc(bits, "crc6").any() for bits in (Key(3).uniform(30_000, 50) < 0.5).astype(np.uint8))
    assert_rate(passed, 30_000, 1 / 64)


def test_rows_of_a_larger_array_and_booleans_are_read_right():
    """Catches strides or types that the compiled loop takes for something else."""
    rows = random_bits(400, "rows").reshape(20, 20)
    for column in (rows[:, 3], rows[:, 3].astype(bool), rows[::2, 5]):
        assert as_number(crc(column, "crc16")) == remainder(column.astype(np.uint8), EXPONENTS["crc16"])


@pytest.mark.parametrize("name", [name for name in CRC_BITS if name != "none"])
def test_flips_have_the_crc_of_what_they_change(name: str):
    """Catches a place off by one and a wrong feedback: every single and some double flips, by the CRC of the changed bits."""
    bits = Key(4).child("flips").integers(2, 40).astype(np.uint8)
    word = np.concatenate([bits, crc(bits, name)])
    remainders = crc_of_flips(40, name)
    weights = 1 << np.arange(CRC_BITS[name])[::-1]
    for flips in [[place] for place in range(word.size)] + [[0, 39], [3, 40], [0, word.size - 1]]:
        changed = word.copy()
        changed[flips] ^= 1
        syndrome = crc(changed[:40], name) ^ changed[40:]
        assert np.bitwise_xor.reduce(remainders[flips]) == syndrome.astype(np.int64) @ weights
    assert crc_of_flips(7, "none").tolist() == [0] * 7
