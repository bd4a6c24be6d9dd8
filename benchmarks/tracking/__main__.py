"""Measure what a memory of identities adds: scenes, a real clip, a long stream.

python -m benchmarks.tracking scenes                   # about ten minutes of one core
python -m benchmarks.tracking pets FOLDER [VIDEO]      # a folder of detections.npz and keyframes_1_396.csv
python -m benchmarks.tracking stream                   # ten hours of a simulated stream; a minute or two
python -m benchmarks.tracking pictures                 # what docs/tracking.md shows of one scene

Each writes results/tracking-NAME.json, its table in docs/tracking.md, and its plot.
"""

import argparse
from pathlib import Path

from . import pets, pictures, stream, suite

RESULTS = Path(__file__).parents[1] / "results"
IMAGES = Path(__file__).parents[2] / "docs" / "images"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the plots")
    what = parser.add_subparsers(dest="what", required=True)
    scenes = what.add_parser("scenes")
    scenes.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    scenes.add_argument("--only", nargs="+", help="some kinds of scenes")
    clip = what.add_parser("pets")
    clip.add_argument("folder", type=Path)
    clip.add_argument("video", type=Path, nargs="?", help="vtest.avi, for contact sheets")
    clip.add_argument(
        "--pictures", type=Path, default=Path("runs/pets"), help="made from the clip: not for the project"
    )
    long = what.add_parser("stream")
    long.add_argument("--frames", type=int, default=25_500)
    what.add_parser("pictures")
    chosen = parser.parse_args()
    match chosen.what:
        case "scenes":
            suite.run(chosen.seeds, chosen.only, chosen.out / "tracking-scenes.json", chosen.images)
        case "pets":
            pets.run(chosen.folder, chosen.video, chosen.out / "tracking-pets.json", chosen.pictures)
        case "stream":
            stream.run(chosen.frames, chosen.out / "tracking-stream.json", chosen.images)
        case "pictures":
            pictures.draw(chosen.images)


if __name__ == "__main__":
    main()
