"""What a scenario may leave out, and what must fit together: keys that follow from other components of the same chain."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from channel_sim.checks import RequestError
from channel_sim.codes import SOFT_OUTPUT
from channel_sim.stages import Component
from channel_sim.trial import Chain
from scenarios import catalogue
from sources.diffusion.laplace import LaplaceLaw
from sources.gaussian import GaussianLaw


def fill(stage: str, table: dict[str, Any], built: Mapping[str, Component], where: str) -> dict[str, Any]:
    """The table with its keys completed from the components `built` before it."""
    table = dict(table)
    cls = catalogue.find(f"{stage}s", table.get("name"), where)
    fields = cls.model_fields
    if "vocab_size" in fields and "tokenizer" in built:
        table.setdefault("vocab_size", built["tokenizer"].vocab_size)  # type: ignore[attr-defined]
    sample_bits = getattr(built.get("tokenizer", built.get("source")), "sample_bits", None)
    if "sample_bits" in fields and sample_bits is not None:
        table.setdefault("sample_bits", sample_bits)
    source = built.get("source")
    for law in (GaussianLaw, LaplaceLaw):
        if issubclass(cls, law) and isinstance(source, law):
            table = {key: getattr(source, key) for key in law.model_fields} | table
    if "model" in fields:
        # decoder ngram takes no other model, so it names none
        kind = catalogue.models_for(cls)
        guide = _SHIPPED["masked_models"].get(catalogue.name_of(built["tokenizer"])) if "tokenizer" in built else None
        if guide and table["name"] == "lm_beam" and not table.get("model"):
            table.setdefault("guide", guide)
        model = table.get("model") or (_fitting_model(kind, built, where) if table["name"] != "ngram" else None)
        if model is not None:
            table["model"] = _complete_model(model, kind, built, f"{where}.model")
    if table.get("judge") is not None:
        table["judge"] = _complete_model(table["judge"], "models", built, f"{where}.judge")
    return _from_source(table, fields, built, where)


def fits(chain: Chain, where: str) -> None:
    """Refuse chains whose parts speak of different things."""
    for stage, key in itertools.product(("coder", "decoder"), catalogue.MODEL_KEYS):
        component = getattr(chain, stage)
        model = getattr(component, key, None)
        if model is not None and key not in component.ignored_fields:
            _knows_the_tokens(model, chain, f"{where}: {stage}.{key}")
    if (denoiser := getattr(chain.tokenizer, "denoiser", None)) is not None:
        with _said_of(f"{where}: tokenizer.denoiser"):
            denoiser.digests()  # whether its files are there
    with _said_of(f"{where}: protection"):
        chain.protection.check(chain.channel)
    if chain.receiver.num_exchanges:
        _exchanges(chain, f"{where}: receiver.num_exchanges")


@contextmanager
def _said_of(where: str) -> Iterator[None]:
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from error


def _knows_the_tokens(model: Any, chain: Chain, where: str) -> None:
    with _said_of(where):
        model.digests()  # whether its files are there
        known, made = model.vocab_size, chain.tokenizer.vocab_size
    if known != made:
        raise RequestError(f"{where}: {catalogue.name_of(model)} knows {known} tokens, the tokenizer "
                           f"{catalogue.name_of(chain.tokenizer)} makes {made}; choose a model that fits")
    told, used = getattr(model, "tokenizer_digest", None), getattr(chain.tokenizer, "tokens_digest", None)
    if told is not None and told != used:
        raise RequestError(f"{where}: {catalogue.name_of(model)} knows tokens of a picture tokenizer whose encoder and codes have "
                           f"SHA-256 {told[:12]}…, those of {catalogue.name_of(chain.tokenizer)} have {str(used)[:12]}…; name the "
                           "weights it was trained on as tokenizer.path, or train it anew with channel-sim train image-masked")


def _exchanges(chain: Chain, where: str) -> None:
    """Going round between channel and decoder needs soft decisions all the way."""
    reasons = [
        (chain.protection.detects_again, f"protection {catalogue.name_of(chain.protection)}, which stands before the channel; "
                                         'use protection "none"'),
        (chain.coder.takes_posterior, f"coder {catalogue.name_of(chain.coder)}, whose packets' bits are no bits of single tokens; "
                                      'use coder "fixed_length"'),
        (chain.channel.takes_prior, f'code = "{getattr(chain.channel, "code", "")}" of channel {catalogue.name_of(chain.channel)}, '
                                    f"whose decoder takes no soft decisions; use a code of {', '.join(SOFT_OUTPUT)}"),
        (chain.decoder.states_posterior, f"decoder {catalogue.name_of(chain.decoder)}, which states no posterior; "
                                         "use one that does, such as ngram"),
    ]
    for fits_in, reason in reasons:
        if not fits_in:
            raise RequestError(f"{where} must be 0, got {chain.receiver.num_exchanges}, with {reason}, or num_exchanges = 0")


_SHIPPED = {"models": {"bytes": "ngram", "bpe": "text-small"},
            "masked_models": {"bpe": "text-masked-small", "vq_image": "image-masked-small", "rvq_image": "image-masked-rvq"}}


def _fitting_model(kind: str, built: Mapping[str, Component], where: str) -> str:
    shipped = _SHIPPED[kind].get(catalogue.name_of(built["tokenizer"]))
    if shipped:
        return shipped
    if kind == "models" and catalogue.name_of(built["source"]) == "markov":
        return "exact_markov"
    raise RequestError(f"{where}.model: no shipped model fits source {catalogue.name_of(built['source'])} and tokenizer "
                       f"{catalogue.name_of(built['tokenizer'])}; name one of {', '.join(catalogue.CATALOGUE[kind])}")


def _complete_model(model: Any, kind: str, built: Mapping[str, Component], where: str) -> Mapping[str, Any]:
    table = dict(catalogue.model_table(model, where))
    cls = catalogue.find(kind, table.get("name"), where)
    if "vocab_size" in cls.model_fields:
        table.setdefault("vocab_size", built["tokenizer"].vocab_size)  # type: ignore[attr-defined]
    if "model" in cls.model_fields:
        table["model"] = _complete_model(table.get("model") or _fitting_model(kind, built, where), kind, built, f"{where}.model")
    if "coder" in cls.model_fields:
        table["coder"] = fill("coder", table.get("coder") or {}, built, f"{where}.coder")
    return _from_source(table, cls.model_fields, built, where)


def _from_source(table: dict[str, Any], fields: Mapping[str, Any], built: Mapping[str, Component], where: str) -> dict[str, Any]:
    """exact_* components know the source's own parameters: that is what makes them exact."""
    if not str(table["name"]).startswith("exact_") or "source" not in built:
        return table
    for key, field in fields.items():
        if key in table or field.is_required() or field.default is not None:
            continue
        law = set(type(built["source"]).model_fields) - {"num_symbols"}
        if key not in law or law - fields.keys():
            raise RequestError(f"{where}.{key}: {table['name']} reads it from a source of its own law, which source "
                               f"{catalogue.name_of(built['source'])} is not; give it, or choose another name")
        table[key] = getattr(built["source"], key)
    return table
