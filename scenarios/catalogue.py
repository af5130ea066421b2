"""Name -> class: the only registry. Adding a component is one class and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from channel_sim import abstraction, arq, bits, link, loss_trace, losses, parity, priority, protection
from channel_sim.checks import RequestError
from channel_sim.stages import Component
from channel_sim.trial import Receiver
from decoders import (
    autoregressive,
    bidirectional,
    dude,
    exact_markov,
    fitted_markov,
    inpainting,
    lm_beam,
    lm_greedy,
    masked_image,
    masked_lm,
    most_frequent,
    neighbour_mean,
    ngram,
    none,
    posterior_sample,
    repeat_last,
)
from sources import (
    audio,
    bpe,
    classical,
    codecs,
    coder,
    fixed_length,
    gaussian,
    images,
    masked_coder,
    online,
    plucked_strings,
    sequences,
    surprisal_uep,
    synthetic,
    text,
    tokenizers,
    vq_image,
)
from sources.diffusion import diffc, diffc_image, laplace
from sources.models import classifier, diffusion, from_coder, keras_hub, markov, masked, masked_grid, mixture, neighbourhood, neural
from sources.models import ngram as ngram_model
from sources.models import ngram_of, placebos, uniform, weights_file

CATALOGUE: Mapping[str, Mapping[str, type[Component]]] = MappingProxyType({
    "sources": {
        "text": text.Text,
        "bytes_file": text.BytesFile,
        "images": images.Images,
        "audio": audio.Audio,
        "plucked_strings": plucked_strings.PluckedStrings,
        "bernoulli": synthetic.Bernoulli,
        "markov": synthetic.Markov,
        "hidden_markov": synthetic.HiddenMarkov,
        "xor_k": synthetic.XorK,
        "hmm_k": synthetic.HmmK,
        "random_bytes": synthetic.RandomBytes,
        "dna": sequences.Dna,
        "gaussian_vector": gaussian.GaussianVector,
        "laplace_vector": laplace.LaplaceVector,
    },
    "tokenizers": {
        "bytes": tokenizers.BytesTokenizer,
        "symbols": tokenizers.Symbols,
        "pixels": tokenizers.Pixels,
        "pcm": tokenizers.Pcm,
        "mu_law": tokenizers.MuLaw,
        "jpeg": codecs.Jpeg,
        "webp": codecs.Webp,
        "avif": codecs.Avif,
        "jpeg2000": codecs.Jpeg2000,
        "png": codecs.Png,
        "bpe": bpe.Bpe,
        "vq_image": vq_image.VqImage,
        "rvq_image": vq_image.RvqImage,
        "diffc": diffc.Diffc,
        "diffc_image": diffc_image.DiffcImage,
        "diffc_laplace": laplace.DiffcLaplace,
        "keras_hub": keras_hub.KerasHubTokenizer,
    },
    "models": {
        "uniform": uniform.Uniform,
        "exact_markov": markov.ExactMarkov,
        "ngram": ngram_model.NGram,
        "ngram_of": ngram_of.NGramOf,
        "text-small": neural.TextSmall,
        "text-byte-small": neural.TextByteSmall,
        "text-byte-mixed": mixture.TextByteMixed,
        "recurrent": neural.Recurrent,
        "image-byte-small": neighbourhood.ImageByteSmall,
        "sound-byte-small": neighbourhood.SoundByteSmall,
        "neighbourhood": neighbourhood.Neighbourhood,
        "unigram": placebos.Unigram,
        "shuffled_context": placebos.ShuffledContext,
        "ngram-dna": placebos.NGramDna,
        "keras_hub": keras_hub.KerasHub,
        "from_coder": from_coder.FromCoder,
    },
    "masked_models": {
        "text-masked-small": masked.TextMaskedSmall,
        "masked": masked.Masked,
        "image-masked-small": masked_grid.ImageMaskedSmall,
        "image-masked-rvq": masked_grid.ImageMaskedRvq,
        "masked_grid": masked_grid.MaskedGrid,
    },
    "denoisers": {
        "diffusion-small": diffusion.DiffusionSmall,
        "denoiser": diffusion.LearnedDenoiser,
    },
    "coders": {
        "fixed_length": fixed_length.FixedLength,
        "entropy": coder.Entropy,
        "masked_entropy": masked_coder.MaskedEntropy,
        "online": online.Online,
        "surprisal_uep": surprisal_uep.SurprisalUep,
        "compressor": classical.Compressor,
    },
    "protections": {
        "none": protection.NoProtection,
        "reed_solomon": parity.ReedSolomon,
        "priority": priority.Priority,
        "repeat": protection.Repeat,
        "arq": arq.Arq,
    },
    "channels": {
        "ideal": losses.Ideal,
        "packet_loss": losses.PacketLoss,
        "gilbert_elliott": losses.GilbertElliott,
        "three_state": losses.ThreeState,
        "loss_trace": loss_trace.LossTrace,
        "cut_off": losses.CutOff,
        "bsc": bits.BinarySymmetric,
        "bec": bits.BinaryErasure,
        "coded_link": link.CodedLink,
        "bler_table": abstraction.BlerTable,
    },
    "decoders": {
        "none": none.NoDecoder,
        "most_frequent": most_frequent.MostFrequent,
        "repeat_last": repeat_last.RepeatLast,
        "exact_markov": exact_markov.ExactMarkovDecoder,
        "exact_hidden_markov": exact_markov.ExactHiddenMarkov,
        "fitted_markov": fitted_markov.FittedMarkov,
        "dude": dude.Dude,
        "ngram": ngram.NGramRestorer,
        "lm_greedy": lm_greedy.LmGreedy,
        "bidirectional": bidirectional.Bidirectional,
        "lm_beam": lm_beam.LmBeam,
        "posterior_sample": posterior_sample.PosteriorSample,
        "masked_lm": masked_lm.MaskedLm,
        "interpolate": inpainting.Interpolate,
        "biharmonic": inpainting.Biharmonic,
        "autoregressive": autoregressive.Autoregressive,
        "neighbour_mean": neighbour_mean.NeighbourMean,
        "masked_image": masked_image.MaskedImage,
    },
    "evaluators": {
        "image-classifier-small": classifier.ImageClassifierSmall,
    },
    "receivers": {
        "receiver": Receiver,
    },
})
MODEL_KEYS = ("model", "judge", "guide", "denoiser")
"""Keys of components that name a model."""
_TAKES_MASKED = (masked_lm.MaskedLm, masked_image.MaskedImage, masked_coder.MaskedEntropy)
_NAMES = {cls: name for classes in CATALOGUE.values() for name, cls in classes.items()}
_FORMATS = {ngram_model.FORMAT: "ngram", neural.FORMAT: "recurrent", masked.FORMAT: "masked",
            masked_grid.FORMAT: "masked_grid", neighbourhood.FORMAT: "neighbourhood", diffusion.FORMAT: "denoiser"}


def name_of(component: Component) -> str:
    """The component's name in the catalogue."""
    return _NAMES[type(component)]


def find(kind: str, name: Any, where: str) -> type[Component]:
    """The class called `name` among `kind` ("channels", ...); an unknown name is a `RequestError` with the nearest match."""
    classes = CATALOGUE[kind]
    if name is None:
        raise RequestError(f"{where}.name: missing; allowed are {', '.join(classes)}")
    if not isinstance(name, str) or name not in classes:
        raise RequestError(f"{where}.name: no {kind[:-1]} is called {name!r}{nearest(name, classes)}")
    return classes[name]


def build(kind: str, table: Mapping[str, Any], where: str) -> Component:
    """A component from its scenario table; `where` (file and key) goes into every error."""
    cls = find(kind, table.get("name"), where)
    fields = {key: value for key, value in table.items() if key != "name"}
    for key in fields:
        if key not in cls.model_fields:
            raise RequestError(f"{where}.{key}: {table['name']} has no such key{nearest(key, cls.model_fields)}")
    for key in MODEL_KEYS:
        if fields.get(key) is not None and not isinstance(fields[key], Component):
            fields[key] = build(models_for(cls, key), model_table(fields[key], f"{where}.{key}"), f"{where}.{key}")
    if isinstance(fields.get("coder"), Mapping):  # a model made of one
        fields["coder"] = build("coders", fields["coder"], f"{where}.coder")
    try:
        return cls(**fields)
    except ValidationError as error:
        raise RequestError(_one_line(error, where)) from error


def models_for(cls: type[Component], key: str = "model") -> str:
    """The kind of what a component takes under `key`: models that predict what comes next, those that fill in, or denoisers."""
    if key == "denoiser":
        return "denoisers"
    return "masked_models" if key == "guide" or issubclass(cls, _TAKES_MASKED) else "models"


def nearest(name: Any, allowed: Mapping[str, Any] | list[str]) -> str:
    """'; did you mean …? allowed are …', for the end of an error."""
    close = difflib.get_close_matches(str(name), list(allowed), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} allowed are {', '.join(allowed) or 'none'}"


def model_table(model: Any, where: str) -> Mapping[str, Any]:
    """A model's table: its name alone, or a path to trained weights, stands for a table."""
    if isinstance(model, Mapping):
        return model
    if not isinstance(model, str):
        raise RequestError(f"{where}: must be a name, a path or a table, got {model!r}; channel-sim list shows the names")
    return {"name": _trained(Path(model), where), "path": model} if model.endswith(".safetensors") else {"name": model}


def _trained(file: Path, where: str) -> str:
    """The model whose weights lie in `file`, by the format that the .json beside them names."""
    try:
        form = weights_file.read_config(file).get("format")
    except (OSError, ValueError) as error:
        raise RequestError(f"{where}: {str(file)!r} must be trained weights with their .json beside them ({error}); "
                           "make them with channel-sim train") from error
    if form not in _FORMATS:
        raise RequestError(f"{where}: {str(file)!r} must be of a format that is read here, {', '.join(map(repr, _FORMATS))}, "
                           f"got {form!r}; make it anew with channel-sim train")
    return _FORMATS[form]


def _one_line(error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    key = ".".join([where, *map(str, first["loc"])])
    got = "" if first["type"] in ("value_error", "missing") else f", got {first['input']!r}"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}{got}".replace("\n", " ")
