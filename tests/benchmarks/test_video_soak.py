"""A short form of the soak: it runs, and neither bytes nor shapes grow."""

import json

from benchmarks.video import soak


def test_soak__measures_flat_bytes_and_fills_its_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- video-soak: begin -->\n<!-- video-soak: end -->\n")
    places = ["--out", str(tmp_path), "--images", str(tmp_path), "--page", str(page)]
    soak.main(["--writes", "9600", "--only", "fifo", "merged neighbours", *places])
    runs = json.loads((tmp_path / "video-soak.json").read_text())["runs"]
    assert [run["rule"] for run in runs] == ["fifo", "merged neighbours", "appended"]
    for run in runs[:-1]:
        assert len({window["memory_bytes"] for window in run["windows"]}) == 1
        # 9,600 rows of 64 values that stayed somewhere would be 2.5 MB.
        assert soak.growth(run)["process_megabytes"] < 1.5
    assert soak.growth(runs[-1])["memory_megabytes"] > 1
    assert "| fifo | 9,600 |" in page.read_text()
    assert (tmp_path / "video-soak.png").stat().st_size > 10_000
