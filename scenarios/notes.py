"""Sentences beside the results: what theory says of a scenario's axis, and what its arms show about holes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from channel_sim import theory
from channel_sim.link import CodedLink
from channel_sim.store import Store
from scenarios.scenario import Scenario, Task
from sources.coder import Entropy
from sources.synthetic import Markov


def markers(scenario: Scenario) -> list[dict[str, Any]]:
    """Places on the sweep's first axis that theory names: {key, value, label}."""
    axis = next(iter(scenario.sweep), "")
    found = {}
    for task in scenario.tasks:
        source = task.chain.source
        if axis == "channel.loss_rate" and isinstance(source, Markov) and isinstance(task.chain.coder, Entropy):
            boundary = theory.markov_break_even(source.flip_probability)
            found[boundary] = {"key": axis, "value": boundary, "label": f"1 − h(p) = {boundary:.3f}"}
    return list(found.values())


def notes(scenario: Scenario, store: Store) -> list[str]:
    """What the report should say in words."""
    return [*_break_even(scenario), *_holes(scenario, store), *_envelopes(scenario), *_cliffs(scenario)]


def _break_even(scenario: Scenario) -> list[str]:
    return [f"Theory: at one channel use a symbol an entropy code with ideal parity is free of errors below a loss rate of "
            f"{marker['label']}, where the best prior is not; above it the parity fails at once and the prior goes on. "
            "Real codes of finite length fail a little earlier." for marker in markers(scenario)]


def _envelopes(scenario: Scenario) -> list[str]:
    return [f"At every point “{name}” is whichever of its {len(arms)} arms did best on the very items that are drawn. No sender "
            "knows that beforehand: it is an oracle, and bounds from above what adaptation can reach with these arms."
            for name, arms in scenario.envelopes.items()]


def _cliffs(scenario: Scenario) -> list[str]:
    """Of codes that erase what they cannot decode, over the power they are given."""
    swept = scenario.sweep.keys() & {"channel.esno_db", "channel.ebno_db"}
    links = [task.chain.channel for task in scenario.tasks if isinstance(task.chain.channel, CodedLink)
             and task.chain.channel.code != "uncoded" and task.chain.channel.erases_on_crc_failure]
    if not (swept and links and all(task.chain.source.modality == "image" for task in scenario.tasks)):
        return []
    if any(link.fading != "awgn" for link in links):
        return ["Every picture has its cliff, at the fade that it met; the mean over pictures falls as gently as fades are "
                "spread. How often a picture is past it is the outage: the share of which nothing could be decoded."]
    return ["The cliff: a code block is either decoded without error or lost. Within a decibel or two all blocks of an arm go from "
            "one to the other, and the picture with them; above, more power buys nothing, as the quality was fixed by the file's "
            "bytes. A higher rate or modulation moves the cliff to the right and what lies above it up."]


def _holes(scenario: Scenario, store: Store) -> list[str]:
    """For arms that differ in interleaving alone: what is restored of isolated and of contiguous holes."""
    middle = scenario.tasks[-1].point_index // 2
    shown = [task for task in scenario.tasks if task.point_index == middle and task.chain.source.modality == "text"]
    sentences = []
    for apart, together in itertools.permutations(shown, 2):
        if not _differ_in_interleaving(apart, together):
            continue
        isolated, contiguous = _recovered(store, apart), _recovered(store, together)
        if isolated is not None and contiguous is not None:
            at = ", ".join(f"{key} = {value}" for key, value in together.sweep.items())
            sentences.append(
                f"A contiguous hole in text cannot be restored: at {at}, where a lost packet takes a stretch of neighbouring "
                f"bytes (“{together.arm}”), the prior gets {contiguous} of them right; spread over the item (“{apart.arm}”) "
                f"{isolated}.")
    return sentences


def _differ_in_interleaving(apart: Task, together: Task) -> bool:
    if not getattr(apart.chain.coder, "interleave", False):
        return False
    return replace(apart.chain, coder=apart.chain.coder.model_copy(update={"interleave": False})) == together.chain


def _recovered(store: Store, task: Task) -> str | None:
    """'17 % (3 % of what is not white space)'; None where nothing was restored: that says nothing about holes."""
    shares = []
    for metric in ("recovered_fraction", "recovered_fraction_nonspace"):
        pairs = [one.metrics[metric] for one in store.trials(task.task_id) if metric in one.metrics]
        restored, erased = (sum(column) for column in zip(*pairs, strict=True)) if pairs else (0, 0)
        if not restored:
            return None
        shares.append(f"{100 * restored / erased:.0f} %")
    return f"{shares[0]} ({shares[1]} of what is not white space)"
