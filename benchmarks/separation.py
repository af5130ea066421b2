"""Which codec, code rate and modulation carry a picture best at each Es/N0: `python -m benchmarks.separation FOLDER [PICTURES]`.

The scenario image_separation_awgn with the pictures in FOLDER in place of its own, which are those that its report is drawn from:
what is chosen here, on training pictures, is no oracle there. Codecs that can show part of a file do; holes are interpolated.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import scenarios
from scenarios.scenario import read_shipped

CODECS: dict[str, dict[str, Any]] = {"avif": {}, "webp": {}, "jpeg2000": {"num_layers": 1}, "jpeg": {"restart_interval": 8}}


def main(folder: Path, num_pictures: int) -> None:
    found = {codec: _psnr_db(codec, folder, num_pictures) for codec in CODECS}
    points = list(dict.fromkeys(point for _, point in next(iter(found.values()))))
    print(f"{num_pictures} pictures of {folder.name}; PSNR in dB of the best modulation and code rate for each codec")
    print(f"{'Es/N0 dB':>8}  " + "".join(f"{codec:>24}" for codec in CODECS) + "  best")
    for point in points:
        best = {codec: max((value, arm) for (arm, where), value in of_codec.items() if where == point)
                for codec, of_codec in found.items()}
        if len({round(value, 6) for value, _ in best.values()}) == 1:
            print(f"{point:>8g}  all arms fail alike")
            continue
        cells = "".join(f"{f'{value:.2f} {arm}':>24}" for value, arm in best.values())
        print(f"{point:>8g}  {cells}  {max(best, key=lambda codec: best[codec])}")


def _psnr_db(codec: str, folder: Path, num_pictures: int) -> Mapping[tuple[str, float], float]:
    """(arm, Es/N0) -> mean PSNR."""
    tables = read_shipped("image_separation_awgn")
    tables["tokenizer"] |= {"name": codec} | CODECS[codec]
    tables["source"]["path"] = str(folder)
    tables["items"], tables["show"] = num_pictures, ["psnr_db"]
    found = scenarios.run(tables).find("psnr_db")
    return {(row.arm, row.sweep["channel.esno_db"]): row.mean for row in found if row.mean is not None}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 16)
