"""Closed forms that belong on a scenario's axes: which chain meets the conditions of which formula."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import numpy as np

from channel_sim import theory
from channel_sim.arq import Arq
from channel_sim.fidelity import sdr_db
from channel_sim.link import CodedLink
from channel_sim.losses import GilbertElliott, Ideal, PacketLoss, ThreeState
from channel_sim.parity import ReedSolomon
from channel_sim.protection import NoProtection, Repeat
from channel_sim.stages import Channel
from channel_sim.store import Curve
from channel_sim.theory import LossChain
from channel_sim.trial import Chain
from scenarios.scenario import Scenario
from sources.diffusion.diffc import Diffc
from sources.diffusion.laplace import DiffcLaplace, LaplaceVector
from sources.fixed_length import FixedLength
from sources.gaussian import GaussianVector
from sources.synthetic import Bernoulli, Markov
from sources.text import BytesFile, Text
from sources.tokenizers import BytesTokenizer, Symbols

_FAR_APART = 64
"""Packets between symbols of one packet, from which their erasures count as independent: λ^64 is nothing."""
_DEPTH = "protection.interleave_depth"
_RESIDUAL = "residual_packet_loss_rate"
_DIFFUSION = "Theis, Salimans, Hoffman, Mentzer, arXiv 2206.08889 (2022); over the information that is sent, not its bits"
Value = tuple[str, str, float, str]


def reference_curves(scenario: Scenario) -> list[Curve]:
    """One value a sweep point and closed form, from the first arm that meets the form's conditions."""
    found: dict[tuple[int, str, str], Curve] = {}
    for task in scenario.tasks:
        for label, metric, value, source in _closed_forms(task.chain, scenario.items):
            if _DEPTH in scenario.sweep:  # the axis tells it
                label = re.sub(r", \d+ apart", "", label)
            found.setdefault((task.point_index, label, metric), Curve(task.point_index, label, metric, value, source))
    return list(found.values())


def _closed_forms(chain: Chain, num_items: int) -> Iterator[Value]:
    yield from _markov_concealment(chain)
    yield from _uncoded_link(chain)
    yield from _coded_link(chain)
    yield from _packet_protection(chain, num_items)
    yield from _gaussian_diffusion(chain)
    yield from _laplace_diffusion(chain)


def _markov_concealment(chain: Chain) -> Iterator[Value]:
    """Independent erasures of single symbols: lost packets of one symbol, or packets whose symbols lie far apart."""
    if not (isinstance(chain.source, Markov) and isinstance(chain.channel, PacketLoss) and isinstance(chain.coder, FixedLength)):
        return
    far_apart = chain.coder.interleave and chain.source.num_symbols // chain.coder.packet_bits >= _FAR_APART
    isolated = chain.coder.packet_bits == 1 or far_apart
    if not isolated or chain.channel.slot_bits is not None or not isinstance(chain.protection, NoProtection):
        return
    loss, flip = chain.channel.loss_rate, chain.source.flip_probability
    cases: tuple[tuple[Literal[0, 1, 2], str], ...] = ((2, "optimum, both sides"), (1, "optimum, past only"), (0, "no model"))
    for sides, label in cases:
        error = theory.markov_map_error(flip, loss, sides)
        yield label, "recovered_fraction", 1 - error, "symbol-wise MAP of a symmetric Markov source over independent erasures"
        yield label, "token_error_rate", loss * error, "symbol-wise MAP of a symmetric Markov source over independent erasures"


def _gaussian_diffusion(chain: Chain) -> Iterator[Value]:
    """Of Gaussian vectors of which all that was meant to be sent arrives."""
    source, diffc = chain.source, chain.tokenizer
    if not (isinstance(source, GaussianVector) and isinstance(diffc, Diffc) and isinstance(chain.channel, Ideal)):
        return
    if diffc.target_bits is not None or diffc.law != source.law:
        return
    spectrum, bits = source.axes.spectrum, diffc.information_bits
    distortion = theory.diffusion_distortion(spectrum, diffc.remaining_variances(bits), diffc.reconstruction)
    for label, mse, reference in ((f"{diffc.short_name}, closed form", distortion, _DIFFUSION),
                                  ("Shannon's D(R)", theory.gaussian_distortion(spectrum, bits), "reverse water-filling")):
        yield label, "mse", mse, reference
        yield label, "sdr_db", sdr_db(mse), reference


def _laplace_diffusion(chain: Chain) -> Iterator[Value]:
    source, diffc = chain.source, chain.tokenizer
    if isinstance(source, LaplaceVector) and isinstance(diffc, DiffcLaplace) and isinstance(chain.channel, Ideal):
        mse = diffc.law.distortion(diffc.reconstruction)
        yield f"{diffc.short_name}, by quadrature", "mse", mse, _DIFFUSION
        yield f"{diffc.short_name}, by quadrature", "sdr_db", sdr_db(mse), _DIFFUSION


# ---------------------------------------------------------------- links


def _uncoded_link(chain: Chain) -> Iterator[Value]:
    """Of bits that are sent once."""
    channel = chain.channel
    if not (isinstance(channel, CodedLink) and channel.code == "uncoded" and channel.max_transmissions == 1):
        return
    laws: dict[str, Literal["awgn", "rayleigh", "rician"]] = {
        "awgn": "awgn", "rayleigh_block": "rayleigh", "rayleigh": "rayleigh", "rician_block": "rician"}
    if channel.fading not in laws:
        return
    line_of_sight = channel.rician_k_db if laws[channel.fading] == "rician" else None
    error = theory.qam_bit_error_probability(2**channel.bits_per_symbol, channel.resolved_ebno_db, laws[channel.fading],
                                             line_of_sight)
    yield "uncoded, closed form", "bit_error_rate", error, "exact bit error probability of Gray-labelled QAM"


def _coded_link(chain: Chain) -> Iterator[Value]:
    """Of code blocks that are sent once: the normal approximation on BPSK and QPSK, outage on block fading."""
    channel = chain.channel
    if not (isinstance(channel, CodedLink) and channel.code != "uncoded" and channel.max_transmissions == 1):
        return
    bits_per_use = channel.realised_code_rate * channel.bits_per_symbol
    code_bits = round(channel.block_bits / channel.realised_code_rate)
    if channel.fading == "awgn" and channel.bits_per_symbol <= 2:
        use_db = channel.resolved_esno_db - 10 * np.log10(channel.bits_per_symbol)
        error = theory.normal_approximation(code_bits, channel.block_bits, theory.bi_awgn_capacity(use_db),
                                            theory.bi_awgn_dispersion(use_db))
        yield (f"best ({code_bits}, {channel.block_bits}) code, normal approximation", "block_error_rate", error,
               "Polyanskiy, Poor, Verdú, IEEE Trans. Inf. Theory 56 (2010): an approximation, not a bound")
    if channel.fading == "rayleigh_block":
        symbols, faded = code_bits // channel.bits_per_symbol, channel.fading_block_symbols
        if channel.interleave_blocks > 1 or (symbols % faded and faded % symbols):
            return  # blocks meet different numbers of fades, or other numbers of symbols of each
        fades = max(1, symbols // faded)
        outage = theory.outage_probability(bits_per_use, channel.resolved_esno_db, fades)
        yield (f"outage at {bits_per_use:.4g} bits a use, {fades} fade{'s' * (fades > 1)}", "block_error_rate", outage,
               "Ozarow, Shamai, Wyner, IEEE Trans. Veh. Technol. 43 (1994): Gaussian symbols, long blocks")


# ---------------------------------------------------------------- packets


def _packet_protection(chain: Chain, num_items: int) -> Iterator[Value]:
    """What is left of the packets behind a protection, where a slot of losses is a packet."""
    losses = _loss_chain(chain.channel)
    if losses is None:
        return
    protection, independent = chain.protection, losses.loss_probability.size == 1
    if isinstance(protection, Arq) and independent and protection.deadline is None:
        most = protection.max_transmissions
        yield (f"ARQ of {most} transmissions, exact", _RESIDUAL, theory.arq_residual_loss(most, losses),
               "independent losses: loss_rate to the power of the transmissions")
    if not isinstance(protection, ReedSolomon | Repeat):
        return
    if isinstance(protection, Repeat):
        spacing = 1 if independent else _spacing(_num_packets(chain, num_items), protection.interleave_depth)
        if spacing:
            yield (f"{protection.copies} copies{_apart(spacing)}, {_named(chain.channel)}, exact", _RESIDUAL,
                   theory.repetition_residual_loss(protection.copies, losses, spacing), "the chain of losses, copy by copy")
    elif protection.target_uses is None:
        num_blocks, rest = divmod(_num_packets(chain, num_items), protection.k)
        spacing = _spacing(num_blocks, protection.interleave_depth) if not rest else 0
        if spacing:
            yield (f"({protection.n}, {protection.k}) MDS{_apart(spacing)}, {_named(chain.channel)}, exact", _RESIDUAL,
                   theory.mds_residual_over_chain(protection.n, protection.k, losses, spacing),
                   "the chain of losses, packet by packet of a systematic code")


def _loss_chain(channel: Channel) -> LossChain | None:
    """The chain that the packets meet; None for any other channel."""
    if getattr(channel, "slot_bits", None) is not None:
        return None
    if isinstance(channel, PacketLoss):
        return LossChain.independent(channel.loss_rate)
    if isinstance(channel, GilbertElliott):
        return LossChain.two_state(*channel.transitions, channel.loss_in_good, channel.loss_in_bad)
    if isinstance(channel, ThreeState):
        return LossChain(channel.transitions, np.array([0.0, 1.0, 0.0]))
    return None


def _named(channel: Channel) -> str:
    """The law of losses, as a legend tells it: arms may meet different ones."""
    if isinstance(channel, GilbertElliott):
        return "Gilbert losses" if channel.loss_in_good == 0 and channel.loss_in_bad == 1 else "Gilbert-Elliott losses"
    return "three-state losses" if isinstance(channel, ThreeState) else "independent losses"


def _num_packets(chain: Chain, num_items: int) -> int:
    """Packets of every item; 0 where items may differ or only a run can tell."""
    source, coder = chain.source, chain.coder
    if not isinstance(coder, FixedLength):
        return 0
    if isinstance(source, Markov | Bernoulli) and isinstance(chain.tokenizer, Symbols):
        tokens, width = source.num_symbols, (chain.tokenizer.alphabet_size - 1).bit_length()
    elif isinstance(source, Text | BytesFile) and isinstance(chain.tokenizer, BytesTokenizer) and num_items < source.num_items:
        tokens, width = source.item_bytes, 8  # the last item of a file may be shorter
    else:
        return 0
    in_packet = coder.packet_bits // width
    return -(-tokens // in_packet) if in_packet else 0


def _spacing(num_blocks: int, depth: int) -> int:
    """Places between packets of one block on the air; 0 where blocks differ or there are none."""
    num_groups = max(1, num_blocks // depth)
    return 0 if num_blocks % num_groups else num_blocks // num_groups


def _apart(spacing: int) -> str:
    return f", {spacing} apart" if spacing > 1 else ""
