"""The image codec and the redundancy that carry pictures best at each Es/N0: `python -m benchmarks.separation FOLDER [PICTURES]`.

The scenario image_separation_awgn, or another `--scenario` of its family, with the pictures in FOLDER in place of its own, which
are those that its report is drawn from: what is chosen here, on training pictures, is no oracle there. Codecs that can show part
of a file do; holes are interpolated. `--parity` puts two arms beside each that has no parity: three quarters and half of its
packets carry the file, the others Reed-Solomon parity.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import scenarios
from scenarios.scenario import read_shipped

CODECS: dict[str, dict[str, Any]] = {"avif": {}, "webp": {}, "jpeg2000": {"num_layers": 1}, "jpeg": {"restart_interval": 8}}
SHARES = (3 / 4, 1 / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("pictures", type=int, nargs="?", default=16)
    parser.add_argument("--scenario", default="image_separation_awgn")
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("--esno-db", type=float, nargs="+", help="points in place of the scenario's")
    options = parser.parse_args()
    found = {codec: _psnr_db(codec, options) for codec in CODECS}
    points = list(dict.fromkeys(point for _, point in next(iter(found.values()))))
    print(f"{options.pictures} pictures of {options.folder.name}; PSNR in dB of the best arm for each codec")
    print(f"{'Es/N0 dB':>8}  " + "".join(f"{codec:>32}" for codec in CODECS) + "  best")
    for point in points:
        best = {codec: max((value, arm) for (arm, where), value in of_codec.items() if where == point)
                for codec, of_codec in found.items()}
        if len({round(value, 6) for value, _ in best.values()}) == 1:
            print(f"{point:>8g}  all arms fail alike")
            continue
        cells = "".join(f"{f'{value:.2f} {arm}':>32}" for value, arm in best.values())
        print(f"{point:>8g}  {cells}  {max(best, key=lambda codec: best[codec])}")


def _psnr_db(codec: str, options: argparse.Namespace) -> Mapping[tuple[str, float], float]:
    """(arm, Es/N0) -> mean PSNR."""
    tables = read_shipped(options.scenario)
    tables["tokenizer"] |= {"name": codec} | CODECS[codec]
    tables["source"]["path"] = str(options.folder)
    tables["items"], tables["show"] = options.pictures, ["psnr_db"]
    if options.esno_db:
        tables["sweep"] = {"channel.esno_db": options.esno_db}
    if options.parity:
        tables["arm"] = [one for arm in tables["arm"] for one in _with_parity(arm, tables["coder"]["packet_bits"] // 8)]
    tables.pop("envelopes", None)
    found = scenarios.run(tables).find("psnr_db")
    return {(row.arm, row.sweep["channel.esno_db"]): row.mean for row in found if row.mean is not None}


def _with_parity(arm: dict[str, Any], packet_bytes: int) -> Iterator[dict[str, Any]]:
    """The arm, and what becomes of it where some of its packets are parity; one that has parity stays alone."""
    yield arm
    num_packets = arm["tokenizer"]["target_bytes"] // packet_bytes
    for share in SHARES if "protection" not in arm else ():
        kept = int(share * num_packets)
        yield arm | {"label": f"{arm['label']}, RS {kept} of {num_packets}", "tokenizer": {"target_bytes": kept * packet_bytes},
                     "protection": {"name": "reed_solomon", "n": num_packets, "k": kept}}


if __name__ == "__main__":
    main()
