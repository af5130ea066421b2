"""Genomes: the letters of nucleic acids from plain text or FASTA files."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Literal

from pydantic import Field

from channel_sim.checks import RequestError
from sources.text import FileSource

_BASES = b"ACGT"
_AMBIGUOUS = b"URYSWKMBDHVN-"
_WHITE_SPACE = b" \t\r\n\v\f"


class Dna(FileSource):
    """DNA as bytes of the letters A, C, G and T: a base is a byte, so `item_bytes` are bases.

    path:  a file of plain letters or of FASTA, not compressed, or a folder of such files, each of which ends with a line feed.
           Lines that begin with > or ; are headers and are left out, and so is white space; the letters that remain are joined
           with nothing between records, and lower case (soft masking) becomes upper case.
    other: what becomes of the other letters of IUPAC's code for nucleic acids (N for any base, U, R, Y, …, and - for a gap):
           "refuse" them by name, "keep" them as letters of their own, or "drop" them, which joins what stands around them.
           Anything else is refused, with the place where it stands.

    Source: W. R. Pearson, D. J. Lipman, "Improved tools for biological sequence comparison", PNAS 85 (1988) (FASTA);
    A. Cornish-Bowden, "Nomenclature for incompletely specified bases in nucleic acid sequences", Nucleic Acids Res. 13 (1985).
    """

    modality: ClassVar[str] = "bytes"

    item_bytes: int = Field(2048, ge=1, description="bases of an item, a byte each")
    other: Literal["refuse", "keep", "drop"] = Field("refuse", description="what becomes of N and other letters beside A, C, G, T")

    def _data(self) -> bytes:
        try:
            return _letters(super()._data(), self.other)
        except RequestError:
            raise
        except ValueError as error:
            raise RequestError(f"source.path = {self.path!r}: {error}") from error


@lru_cache(maxsize=2)
def _letters(raw: bytes, other: str) -> bytes:
    """The sequence alone, in upper case; ValueError for what is none."""
    lines = raw.split(b"\n")
    letters = b"".join(line for line in lines if not line.startswith((b">", b";"))).translate(None, _WHITE_SPACE).upper()
    rest = letters.translate(None, _BASES)
    foreign = rest.translate(None, _AMBIGUOUS)
    if foreign:
        raise ValueError(f"{_place(lines, foreign[0])} is no letter of a nucleic acid; give plain letters or FASTA, unpacked")
    if rest and other == "refuse":
        raise ValueError(f'{_place(lines, rest[0])} is none of A, C, G, T, with {len(rest):,} such letters in all; set other = '
                         '"keep" or "drop"')
    letters = letters.translate(None, _AMBIGUOUS) if other == "drop" else letters
    if not letters:
        raise ValueError("holds no base; name a file with letters of DNA")
    return letters


def _place(lines: list[bytes], letter: int) -> str:
    """Where `letter`, in upper case, stands first."""
    for number, line in enumerate(lines, start=1):
        if not line.startswith((b">", b";")) and letter in line.upper():
            return f"{chr(letter)!r} in line {number:,}"
    raise AssertionError("the letter was found in these lines")
