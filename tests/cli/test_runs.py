"""The book-keeping of a run: what is told is there, and what is there is told."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xplique_sal._runs import (
    ERROR,
    Entry,
    Run,
    file_of,
    fingerprint,
    inside,
    read_manifest,
    read_notes,
    read_settings,
    stage,
)
from xplique_sal.errors import InvalidParameterError

SETTINGS = {"method": "Saliency", "sizes": (3, 4)}


def lines_of(folder):
    return (folder / "manifest.jsonl").read_bytes().splitlines()


def done(run, *names, content=b"map"):
    entries = [Entry(name, target=1, score=0.5, file=file_of(name, ".npy")) for name in names]
    for entry in entries:
        run.stage(entry.file, content)
    run.commit(entries)


def test_what_is_committed_is_there_when_the_folder_is_opened_again(tmp_path):
    with Run(tmp_path / "out", SETTINGS, {"python": "3.11"}) as run:
        done(run, "a.png", "sub/b.png")
        run.commit([Entry("c.png", ERROR, error="no image", more={"label": 3})])
        run.note(warnings=["one"])
        run.note(seconds=1)
    with Run(tmp_path / "out", {"sizes": [3, 4], "method": "Saliency"}) as again:
        assert again.done == {"a.png", "sub/b.png"}
        assert again.is_done("a.png") and not again.is_done("c.png")
        assert not again.is_done("a.png", changed=2e10)
    assert (tmp_path / "out" / "maps" / "sub" / "b.png.npy").read_bytes() == b"map"
    told = [json.loads(line) for line in lines_of(tmp_path / "out")]
    expected = {"input": "a.png", "status": "ok", "class": 1, "score": 0.5, "error": None}
    assert told[0] == {**expected, "file": "maps/a.png.npy"}
    assert told[2]["label"] == 3
    assert read_settings(tmp_path / "out") == ({**SETTINGS, "sizes": [3, 4]}, {"python": "3.11"})
    assert read_notes(tmp_path / "out") == {"warnings": ["one"], "seconds": 1}


def test_a_folder_of_other_settings_or_of_other_files_is_refused(tmp_path):
    Run(tmp_path / "out", SETTINGS).close()
    with pytest.raises(InvalidParameterError, match="method='LRP' instead of 'Saliency'"):
        Run(tmp_path / "out", {**SETTINGS, "method": "LRP"})
    with pytest.raises(InvalidParameterError, match="seed=1 instead of None"):
        Run(tmp_path / "out", {**SETTINGS, "seed": 1})
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("words")
    with pytest.raises(InvalidParameterError, match=r"chapter\.txt"):
        Run(tmp_path / "thesis", SETTINGS)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]
    with pytest.raises(InvalidParameterError, match="folder that a run has made"):
        read_settings(tmp_path / "thesis")
    with pytest.raises(InvalidParameterError, match="can be made"):
        Run(tmp_path / "thesis" / "chapter.txt", SETTINGS)


@pytest.mark.parametrize("address", ["s3://bucket/out", "gs://bucket", "file:///tmp/out"])
def test_an_address_is_refused_and_no_folder_of_its_name_made(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match="Mount the bucket"):
        Run(address, SETTINGS)
    assert not list(tmp_path.iterdir())
    Run("a:b", SETTINGS).close()


def test_a_second_process_is_refused(tmp_path):
    with (
        Run(tmp_path, SETTINGS),
        pytest.raises(InvalidParameterError, match="no other process works"),
    ):
        Run(tmp_path, SETTINGS)
    Run(tmp_path, SETTINGS).close()


def test_a_line_that_was_torn_does_not_count(tmp_path):
    with Run(tmp_path, SETTINGS) as run:
        done(run, "a", "b")
    manifest = tmp_path / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-5])
    assert [entry.input for entry in read_manifest(tmp_path)] == ["a"]
    with Run(tmp_path, SETTINGS) as run:
        assert run.done == {"a"}
        done(run, "b")
    assert manifest.read_bytes() == whole
    manifest.write_bytes(b"words\n" + whole)
    with pytest.raises(InvalidParameterError, match="in line 1"):
        Run(tmp_path, SETTINGS)


def test_what_was_told_and_not_named_gets_its_name_and_what_was_not_told_goes(tmp_path):
    """The two moments between the steps of a commit at which a process can be killed."""
    told, untold = file_of("told", ".npy"), file_of("untold", ".npy")
    with Run(tmp_path, SETTINGS) as run:
        stage(tmp_path, told, b"whole")
        stage(tmp_path, untold, b"whole")
        (tmp_path / "maps" / ".0123.unfinished").write_bytes(b"ha")
        os.write(run._manifest, (Entry("told", file=told).line + "\n").encode())
    with Run(tmp_path, SETTINGS) as run:
        assert run.done == {"told"}
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["told.npy"]
    assert (tmp_path / told).read_bytes() == b"whole"


def test_a_result_that_somebody_removed_is_missing(tmp_path):
    with Run(tmp_path, SETTINGS) as run:
        done(run, "a", "b")
    (tmp_path / file_of("a", ".npy")).unlink()
    with Run(tmp_path, SETTINGS) as run:
        assert run.done == {"b"}
        done(run, "a", content=b"anew")
        assert run.done == {"a", "b"}
    assert (tmp_path / file_of("a", ".npy")).read_bytes() == b"anew"
    assert len(lines_of(tmp_path)) == 2


def test_the_result_of_a_changed_input_is_never_mixed_with_an_old_line(tmp_path):
    with Run(tmp_path, SETTINGS) as run:
        done(run, "a", "b")
        run.retract(["a"])
        assert run.done == {"b"}
        run.stage(file_of("a", ".npy"), b"anew")  # and killed before it is told
    with Run(tmp_path, SETTINGS) as run:
        assert run.done == {"b"}
        done(run, "a", content=b"anew")
        assert run.done == {"a", "b"}
    assert (tmp_path / file_of("a", ".npy")).read_bytes() == b"anew"
    assert not [*tmp_path.rglob(".*")]


def test_finish_leaves_one_line_for_each_input_in_order(tmp_path):
    with Run(tmp_path, SETTINGS) as run:
        run.commit([Entry("b", ERROR, error="broken")])
        done(run, "c", "a")
        run.commit([Entry("b", ERROR, error="broken")])  # told already
        assert len(lines_of(tmp_path)) == 3
        done(run, "b")
        run.finish(["a", "b", "missing"])
    assert [(e.input, e.status) for e in read_manifest(tmp_path)] == [
        *(("a", "ok"), ("b", "ok"), ("c", "ok"))
    ]
    with Run(tmp_path, SETTINGS) as run:
        assert run.done == {"a", "b", "c"}


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path, monkeypatch):
    with Run(tmp_path, SETTINGS) as run:
        done(run, "a")
        before, write = (tmp_path / "manifest.jsonl").read_bytes(), os.write

        def half(file, content):
            if len(content) < 40:
                raise OSError(28, "No space left on device")
            return write(file, content[: len(content) // 2])

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            done(run, "b")
        monkeypatch.undo()
        assert (tmp_path / "manifest.jsonl").read_bytes() == before
        assert run.done == {"a"}


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "C:\\x", "..\\x", "", None, 3])
def test_a_path_that_leads_out_is_refused(tmp_path, path):
    with pytest.raises(InvalidParameterError, match="stays in its folder"):
        inside(tmp_path, path)
    with Run(tmp_path / "out", SETTINGS):
        line = json.dumps({"input": "a", "status": "ok", "file": path or "../x"})
        (tmp_path / "out" / "manifest.jsonl").write_text(line + "\n")
    with pytest.raises(InvalidParameterError, match="stays in its folder"):
        read_manifest(tmp_path / "out")


def test_a_link_that_leads_out_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "maps").symlink_to(tmp_path)
    with pytest.raises(InvalidParameterError, match="stays in its folder"):
        inside(tmp_path / "out", "maps/a.npy")


def test_names_of_results_differ_and_are_short_enough(tmp_path):
    long = "ü" * 120
    names = ["a/b.png", "a/b.jpg", "a.png", f"{long}1.png", f"{long}2.png", ".hidden", "x y%2F"]
    files = [file_of(name, ".npy") for name in names]
    assert len(set(files)) == len(names)
    for file in files:
        stage(tmp_path, file, b"map")
    with pytest.raises(InvalidParameterError, match="stays in its folder"):
        file_of("a/../../b", ".npy")


def test_a_fingerprint_tells_content_and_names(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a").write_bytes(b"12")
    first = fingerprint(tmp_path / "one")
    assert fingerprint(tmp_path / "one") == first
    (tmp_path / "one" / "a").write_bytes(b"13")
    assert fingerprint(tmp_path / "one") != first
    (tmp_path / "one" / "a").rename(tmp_path / "one" / "b")
    (tmp_path / "one" / "b").write_bytes(b"12")
    assert fingerprint(tmp_path / "one") != first
    assert fingerprint(tmp_path / "one" / "b") != first


WORK = """
import sys, types
package = types.ModuleType("xplique_sal"); package.__path__ = [sys.argv[1]]
sys.modules["xplique_sal"] = package  # neither TensorFlow nor typer is needed
from xplique_sal._runs import Entry, Run, file_of
with Run(sys.argv[2], {}) as run:
    for start in range(0, 4000, 4):
        names = [f"{n:04}" for n in range(start, start + 4) if f"{n:04}" not in run.done]
        for name in names:
            run.stage(file_of(name, ".bin"), name.encode() * 5000)
        run.commit([Entry(name, file=file_of(name, ".bin")) for name in names])
        print(start, flush=True)
assert not {"tensorflow", "typer", "numpy"} & set(sys.modules)
"""


def test_a_process_that_is_killed_leaves_whole_results_and_true_lines(tmp_path):
    folder, package = tmp_path / "out", Path(__file__).parents[2] / "xplique_sal"
    told = set()
    for round_ in range(1, 4):
        work = subprocess.Popen(
            [sys.executable, "-c", WORK, str(package), str(folder)], stdout=subprocess.PIPE
        )
        for line in work.stdout:
            if int(line) > round_ * 60 * round_:
                break
        work.send_signal(signal.SIGKILL)
        work.wait()
        work.stdout.close()
        files = {path: path.stat().st_mtime_ns for path in (folder / "maps").glob("*.bin")}
        for path in files:
            assert path.read_bytes() == path.stem.encode() * 5000
        lines = [entry.input for entry in read_manifest(folder)]
        raw = (folder / "manifest.jsonl").read_bytes().count(b"\n")
        assert len(lines) == raw  # none was told twice, none is done again
        assert told < set(lines) and {path.stem for path in files} <= set(lines)
        told = set(lines)
