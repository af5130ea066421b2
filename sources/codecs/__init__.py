"""Classical image codecs: the tokenizers, and what a damaged file of each format still shows."""

from sources.codecs.tokenizers import Avif, FileCodec, Jpeg, Jpeg2000, LossyCodec, Png, Webp, library_versions

__all__ = ["Avif", "FileCodec", "Jpeg", "Jpeg2000", "LossyCodec", "Png", "Webp", "library_versions"]
