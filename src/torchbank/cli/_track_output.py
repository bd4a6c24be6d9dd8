"""What `torchbank track` writes and tells."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchbank import report, tracking
from torchbank.cli._track_plan import Source
from torchbank.io import write_json
from torchbank.tracking import Appearances, IdentityLinker, Timed


def write_files(folder: Path, linker: IdentityLinker, at_the_time: Appearances, corrected: Appearances) -> list[Path]:
    files = []
    for ending, appearances in (("", corrected), ("-at-the-time", at_the_time)):
        for place, name in enumerate(appearances.names):
            rows = (appearances.sources == place) & (appearances.identities > 0)
            path = folder / f"{name}{ending}.txt"
            columns = (appearances.frames, appearances.identities, appearances.boxes, appearances.scores)
            tracking.write_mot(path, *(column[rows] for column in columns))
            files.append(path)
    content = {
        "sources": list(corrected.names),
        "identities": corrected.histories(),
        "decisions": [_as_json(decision._asdict()) for decision in linker.decisions],
    }
    write_json(folder / "identities.json", content)
    return [*files, folder / "identities.json"]


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what JSON has no number for."""
    return {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in values.items()}


def draw_pictures(
    folder: Path,
    sources: Sequence[Source],
    linker: IdentityLinker,
    corrected: Appearances,
    on_frame: Callable[[int, int], None],
) -> list[Path]:
    files: list[Path] = []
    if (corrected.identities > 0).any():
        files.append(folder / "timeline.png")
        report.plot_identity_timeline(corrected, files[-1])
    if linker.calibration is not None:
        files.append(folder / "calibration.png")
        report.plot_calibration(linker.calibration, files[-1])
    crops: dict[int, list[report.Crop]] = {}
    try:
        for place, source in enumerate(sources[: len(corrected.names)]):
            if source.video is not None:
                files.append(folder / f"{source.name}.mp4")
                looks = report.annotate_video(source.video, corrected, files[-1], source=place, on_frame=on_frame)
                for identity, some in looks.items():
                    crops.setdefault(identity, []).extend(some)
        if crops:
            files.append(folder / "contact-sheets")
        for identity, looks in crops.items():
            report.plot_contact_sheet(looks, files[-1] / f"identity-{identity:05d}.png", identity=identity)
    except KeyboardInterrupt:
        # The video and the sheets so far are whole.
        pass
    return files


def table(videos: Sequence[Timed], corrected: Appearances, known: set[int]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for place, video in enumerate(videos):
        there = set(corrected.identities[corrected.sources == place].tolist()) - {-1}
        ids = video.footage.track_ids
        numbers = (
            video.footage.length,
            len(ids),
            len(np.unique(ids[ids >= 0])),
            len(there),
            len(there & known),
        )
        rows.append((video.name, *(f"{number:,}" for number in numbers)))
    return rows


def threshold_text(linker: IdentityLinker) -> str:
    """What decided, in words."""
    calibration = linker.calibration
    if calibration is None:
        if np.isfinite(linker.threshold):
            return f"a match needed a cosine of {linker.threshold:.2f}, as given"
        return (
            "nobody was given an old identity: too few tracks were in view at once to find a threshold; give more "
            "footage, or --threshold"
        )
    rate = f"{calibration.false_merge_rate:.0%} of newcomers mistaken"
    if not np.isfinite(calibration.threshold):
        whiten = "" if linker.gallery.adaptation is not None else "--adapt whiten, "
        return (
            f"nobody was given an old identity: with {rate}, these embeddings would know only {calibration.recall:.0%} "
            f"of those who return; try {whiten}a higher --false-merge-rate, or an embedder for re-identification"
        )
    return (
        f"a match needed a cosine of {linker.threshold:.2f} at the end, found from {calibration.track_pairs} pairs of "
        f"tracks in view at once for {rate}"
    )
