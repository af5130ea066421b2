"""Model cards of the picture models, from what stands in the .json beside their weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from sources.models.masked_grid_network import GridArchitecture
from sources.models.vq_network import VqArchitecture
from sources.training.text import thinned

_REPEATABLE = {True: "bit for bit from data, settings and machine", False: "not bit for bit: the schedule went by the clock"}


def vq_card(config: dict[str, Any]) -> str:
    """Of a picture tokenizer."""
    architecture = VqArchitecture(**config["architecture"])
    shapes = [*architecture.shapes().values(), (architecture.stages, architecture.num_codes, architecture.code_length)]
    weights = sum(int(np.prod(shape)) for shape in shapes)
    psnr = ", ".join(f"{name} {value:.2f} dB" for name, value in config.get("psnr_db", {}).items()) or "training goes on"
    made = f"one of {architecture.num_codes} a cell of 4 × 4"
    if architecture.stages > 1:
        made = f"{architecture.stages} of {architecture.num_codes} a cell of 4 × 4, each of what those before it leave"
    facts = {
        "what": f"pictures to tokens and back, {made}{', cells coded alone' * architecture.alone}; {weights:,} weights in 16 bits",
        **training_facts(config, f"{config['settings']['batch_pixels']:,} pixels"),
        "PSNR of the part set aside, whole pictures": psnr,
        "order-0 entropy of a token": f"{config['order_0_bits']:.2f} bits on training pictures",
        "not for": "pictures that must be exact: what a cell looks like is chosen from a code book; text and line art suffer most",
    }
    rows = [f"| {one['updates']:,} | {one['cpu_seconds']:,.0f} | {one['training']:.5f} | {-10 * np.log10(one['held_out']):.2f} |"
            for one in thinned(config["curve"])]
    heads = "| updates | CPU seconds | training, loss | set aside, PSNR of crops in dB |"
    return page("picture tokenizer", facts, [heads, "|---|---|---|---|", *rows], "vq-image", config)


def grid_card(config: dict[str, Any]) -> str:
    """Of a masked model of pictures' tokens."""
    architecture = GridArchitecture(**config["architecture"])
    weights = sum(int(np.prod(shape)) for shape in architecture.shapes().values())
    several, weight = architecture.stages > 1, config["settings"].get("mean_weight", 0)
    known = f"{architecture.vocab_size:,} tokens{f', {architecture.stages} a cell' * several}"
    measured = held_out(config, "integer_bits") + "; crops of the part set aside" + ", given those before it in its cell" * several
    facts = {
        "what": f"p(token) given all known ones around it; {known}, {weights:,} weights in 8 bits",
        "tokens": "of the picture tokenizer whose encoder and codes have SHA-256 "
                  f"`{config['tokenizer']['tokens_sha256']}`; of no others",
        **training_facts(config, f"{config['settings']['batch_pixels'] // 16 * architecture.stages:,} tokens"),
        **({"loss at the end": f"bits, and {weight:g} times what the mean vector is off"} if weight else {}),
        "bits a token, averaged over 1/16 … 16/16 of the grid unknown": measured,
        "not for": "tokens of another tokenizer; what it proposes is plausible, not true",
    }
    rows = [f"| {one['updates']:,} | {one['cpu_seconds']:,.0f} | {one['training']:.3f} | {one['held_out']:.4f} |"
            for one in thinned(config["curve"])]
    heads = "| updates | CPU seconds | training, loss | set aside, bits a token |"
    return page("masked model of picture tokens", facts, [heads, "|---|---|---|---|", *rows], "image-masked", config)


def held_out(config: dict[str, Any], exact: str) -> str:
    """What the part set aside takes at best, and by the exact integers: `exact` is its name in the config."""
    by_integers = "training goes on" if config[exact] is None else f"{config[exact]:.4f} in the integers that run"
    return f"{config['best']['held_out']:.4f} in training's numbers, {by_integers}"


def training_facts(config: dict[str, Any], update: str, unit: str = "pictures") -> dict[str, str]:
    """Data, licence and schedule; `update` is what one update sees, `unit` what the data are counted in."""
    settings, best, last = config["settings"], config["best"], config["curve"][-1]
    turns = config["data"]
    distinct = [one for place, one in enumerate(turns) if one not in turns[:place]]
    told = [f", in {turns.count(one)} of {len(turns)} updates" * (len(distinct) < len(turns)) for one in distinct]
    data = "; ".join(f"{one['name']}, {one[unit]:,} {unit}, SHA-256 `{one['sha256']}`{share}" for one, share in zip(distinct, told))
    aside = ", ".join(f"{one['set_aside']:,}" for one in distinct)
    return {
        "data": data,
        "set aside": f"one of {settings['set_aside_every']} {unit} ({aside}), to choose the best weights by",
        "licence of the data": config["licence"],
        "best at": f"{best['updates']:,} updates, {best['cpu_seconds']:,.0f} CPU seconds: the weights that are kept",
        "trained for": f"{last['updates']:,} updates of {update}, seed {settings['seed']}, {last['cpu_seconds']:,.0f} CPU seconds",
        "repeatable": _REPEATABLE[settings["minutes"] is None],
    }


def page(kind: str, facts: dict[str, str], curve: list[str], command: str, config: dict[str, Any]) -> str:
    """A model card: what it is of, its facts, its learning curve, and what made it."""
    return "\n".join([
        f"# Model card: {kind}", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items()), "",
        "## Learning curve", "", *curve, "",
        f"Made by `channel-sim train {command}` (channel-sim {config['versions']['channel-sim']}, "
        f"Keras {config['versions']['keras']}); settings are in its .json.", ""])
