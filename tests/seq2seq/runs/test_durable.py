"""Folders that are there whole or not at all: under failing calls, kills, full disks and flipped bytes."""

import contextlib
import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fastattn.errors import CheckpointError
from fastattn.seq2seq.runs import durable
from fastattn.seq2seq.runs.durable import DamagedError, NewerError, read_folder, remove_folder, write_folder, write_text

FILES = {"a.bin": bytes(range(256)) * 3, "b.json": b"{}\n", "empty": b""}
CALLS = ("mkdir", "open", "write", "fsync", "rename", "replace")


def write(folder, files=FILES, **about):
    write_folder(folder, files, {"step": 1, **about})


@contextlib.contextmanager
def failing(monkeypatch, number, error):
    """Let the call of the file system with this number raise; yields the list of all calls."""
    calls = []

    def wrapped(name, function):
        def call(*arguments, **options):
            calls.append((name, arguments))
            if len(calls) == number:
                raise error
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrapped(name, getattr(os, name)))
        yield calls


def resealed(folder, change):
    """Change a manifest and give it the checksum of the change."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["checksum"]
    change(manifest)
    path.write_text(json.dumps({**manifest, "checksum": durable._checksum(manifest)}))


def test_there_and_back(tmp_path):
    write(tmp_path / "x", note="n")
    files, about = read_folder(tmp_path / "x")
    assert files == FILES
    assert about == {"step": 1, "note": "n", "format": 1}
    assert sorted(os.listdir(tmp_path)) == ["x"]
    assert read_folder(tmp_path / "x", skip=["a.bin"])[0].keys() == {"b.json", "empty"}


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    write(tmp_path / "x")
    names, log = {}, []
    real = {name: getattr(os, name) for name in ("open", "fsync", "rename", "close")}

    def opened(path, *arguments, **options):
        descriptor = real["open"](path, *arguments, **options)
        names[descriptor] = Path(path).name
        return descriptor

    def renamed(old, new):
        log.append(("rename", Path(old).name, Path(new).name))
        real["rename"](old, new)

    def synced(descriptor):
        log.append(("fsync", names[descriptor]))
        real["fsync"](descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        patch.setattr(os, "rename", renamed)
        patch.setattr(os, "fsync", synced)
        write(tmp_path / "x")
    assert log[:5] == [("fsync", name) for name in (*FILES, "manifest.json", "x.tmp")]
    assert log[5:8] == [("rename", "x", "x.old"), ("rename", "x.tmp", "x"), ("fsync", tmp_path.name)]
    assert log[8:] == [("rename", "x.old", "x.old.tmp")]


def test_short_writes_lose_nothing(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    write(tmp_path / "x")
    assert read_folder(tmp_path / "x")[0] == FILES


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_modes_are_those_of_other_files(tmp_path, mask):
    before = os.umask(mask)
    try:
        write(tmp_path / "x")
        write_text(tmp_path / "pointer", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o777 & ~mask
    for path in (*(tmp_path / "x").iterdir(), tmp_path / "pointer"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("replaced", [False, True])
def test_every_call_may_fail(tmp_path, monkeypatch, error, replaced):
    other = {"a.bin": b"former"}
    for number in range(1, 100):
        run = tmp_path / str(number)
        run.mkdir()
        if replaced:
            write(run / "x", other)
        with failing(monkeypatch, number, error) as calls:
            try:
                write(run / "x")
            except CheckpointError as caught:
                assert "\n" not in str(caught)
                assert f"{run / 'x'}: cannot be saved: no space left on device. Hint: free 0.0 MB or more" in str(
                    caught
                )
            except KeyboardInterrupt:
                assert isinstance(error, KeyboardInterrupt)
        if len(calls) < number:
            break
        if (run / "x").exists():
            assert read_folder(run / "x")[0] in ([other, FILES] if replaced else [FILES])
        else:
            assert not replaced
        assert not (run / "x.tmp").exists()
        write(run / "x")
        assert read_folder(run / "x")[0] == FILES
        assert os.listdir(run) == ["x"]
    assert 15 < number < 99


KILLED = """
import os, shutil, sys
from pathlib import Path
from fastattn.seq2seq.runs.durable import read_folder, write_folder

folder = Path("run/x")
former, latter = {"a": b"former" * 999, "b": b""}, {"a": b"latter" * 999, "c": b""}
for number in range(1, 200):
    shutil.rmtree("run", ignore_errors=True)
    os.mkdir("run")
    write_folder(folder, former, {})
    child = os.fork()
    if not child:
        count = 0
        def counted(function):
            def call(*arguments, **options):
                global count
                count += 1
                if count == number:
                    os.kill(os.getpid(), 9)
                return function(*arguments, **options)
            return call
        for name in ("mkdir", "open", "write", "fsync", "close", "rename", "unlink", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        write_folder(folder, latter, {})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    whole = [read_folder(path)[0] for path in (folder, Path("run/x.old")) if path.exists()]
    assert whole and all(files in (former, latter) for files in whole), number
    write_folder(folder, latter, {})
    assert read_folder(folder)[0] == latter
    if status == 0:
        break
print(number)
"""


def test_a_kill_at_any_call_leaves_a_whole_folder(run_python):
    assert 20 < int(run_python("-W", "ignore", "-c", KILLED).stdout) < 199


def test_a_full_file_system(tmp_path, run_python):
    code = "from pathlib import Path\nfrom fastattn.seq2seq.runs.durable import write_folder, read_folder\n"
    code += "import os\nfrom fastattn.errors import CheckpointError\n"
    code += "write_folder(Path('disk/x'), {'a': b'1' * 40000}, {})\n"
    code += "try:\n    write_folder(Path('disk/y'), {'a': b'2' * 40000, 'b': b'3' * 90000}, {})\n"
    code += "except CheckpointError as error:\n    print(error)\n"
    code += "assert read_folder(Path('disk/x'))[0] == {'a': b'1' * 40000} and os.listdir('disk') == ['x']"
    (tmp_path / "disk").mkdir()
    (tmp_path / "code.py").write_text(code)
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        probe = subprocess.run([*mount, "mount -t tmpfs -o size=100k none disk"], cwd=tmp_path, capture_output=True)
    except FileNotFoundError:
        probe = None
    if probe is None or probe.returncode:
        pytest.skip("no small file system can be mounted here")
    python = f"mount -t tmpfs -o size=100k none disk && exec {sys.executable} code.py"
    package = Path(durable.__file__).parents[3]
    done = subprocess.run(
        [*mount, python], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(package)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{Path('disk/y')}: cannot be saved: no space left on device. Hint: free 0.1 MB or")


def test_a_folder_that_may_not_be_written(tmp_path, run_python):
    code = "import os\nfrom pathlib import Path\nfrom fastattn.seq2seq.runs.durable import write_folder\n"
    code += "os.getuid() or os.setuid(65534)\nwrite_folder(Path('locked/x'), {'a': b''}, {})"
    tmp_path.chmod(0o755)
    (tmp_path / "locked").mkdir(mode=0o555)
    done = run_python("-c", code, check=False)
    message = (
        "CheckpointError: locked/x: cannot be saved: permission denied. Hint: choose a folder that you may write to"
    )
    assert message in done.stderr
    assert os.listdir(tmp_path / "locked") == []


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EROFS, "may write to"), (errno.EIO, "check the disk"), (errno.EDQUOT, "free 0.0 MB")]
)
def test_other_faults_of_the_disk(tmp_path, monkeypatch, number, words):
    with failing(monkeypatch, 1, OSError(number, os.strerror(number))):
        with pytest.raises(CheckpointError, match=f"cannot be saved: {os.strerror(number).lower()}. Hint: .*{words}"):
            write(tmp_path / "x")


def test_every_flipped_bit_is_noticed(tmp_path):
    folder = tmp_path / "x"
    write(folder)
    for path in folder.iterdir():
        good = path.read_bytes()
        for place in range(len(good)):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << place % 8]) + good[place + 1 :])
            with pytest.raises(DamagedError) as caught:
                read_folder(folder)
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        path.write_bytes(good)
    assert read_folder(folder)[0] == FILES


def test_every_truncation_is_noticed(tmp_path):
    folder = tmp_path / "x"
    write(folder)
    for path in folder.iterdir():
        good = path.read_bytes()
        for length in (*range(0, len(good) - 1, 17), len(good) + 1):
            path.write_bytes((good + b"x")[:length])
            with pytest.raises(DamagedError, match=rf"expected a file of \d+ bytes, got {length} bytes|manifest"):
                read_folder(folder)
        path.write_bytes(good)


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path / "x")
    os.unlink(tmp_path / "x" / "empty")
    with pytest.raises(DamagedError, match=r"x/empty: is missing\. Hint"):
        read_folder(tmp_path / "x")
    assert read_folder(tmp_path / "x", skip=["empty"])[0].keys() == {"a.bin", "b.json"}
    with pytest.raises(DamagedError, match=r"none/manifest\.json: is missing"):
        read_folder(tmp_path / "none")


def test_what_is_no_file_is_not_read(tmp_path):
    write(tmp_path / "x")
    for make in (os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)):
        path = tmp_path / "x" / "empty"
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        with pytest.raises(DamagedError, match="x/empty"):
            read_folder(tmp_path / "x")


def test_a_newer_format_says_so(tmp_path):
    write(tmp_path / "x")
    resealed(tmp_path / "x", lambda manifest: manifest.update(format=2))
    with pytest.raises(NewerError, match=r"format 2, and this fastattn knows formats up to 1\. Hint: install a newer"):
        read_folder(tmp_path / "x")


@pytest.mark.parametrize(
    "files",
    [
        {"../outside": [2, "x"]},
        {"/etc/hosts": [2, "x"]},
        {".": [2, "x"]},
        {"a.bin": ["2", "x"]},
        {"a.bin": [2, 3]},
        {"a.bin": [2]},
        {"a.bin": 2},
        ["a.bin"],
        None,
    ],
)
def test_a_forged_manifest_reaches_no_other_file(tmp_path, files):
    (tmp_path / "outside").write_text("{}")
    write(tmp_path / "x")
    resealed(tmp_path / "x", lambda manifest: manifest.update(files=files))
    with pytest.raises(DamagedError, match="is not a manifest as it was written"):
        read_folder(tmp_path / "x")


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{}", '"x"', "[" * 100000, '{"checksum": 3}'])
def test_a_manifest_that_is_none(tmp_path, text):
    write(tmp_path / "x")
    (tmp_path / "x" / "manifest.json").write_text(text)
    with pytest.raises(DamagedError, match="is not a manifest as it was written"):
        read_folder(tmp_path / "x")


def test_a_huge_manifest_is_not_read(tmp_path):
    write(tmp_path / "x")
    with open(tmp_path / "x" / "manifest.json", "r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(DamagedError, match=r"manifest\.json: expected a small file"):
        read_folder(tmp_path / "x")


def test_a_folder_is_removed(tmp_path):
    write(tmp_path / "x")
    write(tmp_path / "y")
    remove_folder(tmp_path / "x")
    remove_folder(tmp_path / "x")
    assert os.listdir(tmp_path) == ["y"]


def test_a_text_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "pointer"
    write_text(path, "former")
    for number in range(1, 20):
        with failing(monkeypatch, number, OSError(errno.ENOSPC, "No space left on device")) as calls:
            with contextlib.suppress(CheckpointError):
                write_text(path, f"latter {number}")
        assert path.read_text() in ("former", f"latter {number}", f"latter {number - 1}")
        if len(calls) < number:
            break
    assert path.read_text() == f"latter {number}" and os.listdir(tmp_path) == ["pointer"]
