"""Archives fetched from a server on this machine; evil ones leave nothing behind."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import pytest

from segalgos import catalog
from segalgos.datasets import download as room
from segalgos.datasets import weights
from segalgos.datasets.download import download, download_file, unpack


def make_zip(path, members):
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in members:
            zipped.writestr(name, content)
    return path


def make_tar(path, *infos):
    with tarfile.open(path, "w:gz") as packed:
        for info, content in infos:
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return path


def tar_member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_link():
    info = zipfile.ZipInfo("a")
    info.external_attr = 0o120777 << 16
    return info


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def files_below(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_downloads_checks_and_unpacks(server, tmp_path):
    folder, address = server
    archive = make_zip(folder / "set.zip", [("set/a.png", b"a"), ("set/b/c.png", b"c")])
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    root = download(f"{address}/set.zip", digest.upper(), tmp_path / "root")
    assert files_below(root) == ["set/a.png", "set/b/c.png"]


def test_another_digest_is_refused_and_nothing_left(server, tmp_path):
    folder, address = server
    make_zip(folder / "set.zip", [("a", b"a")])
    with pytest.raises(ValueError, match=r"has SHA-256 .*, expected 0000"):
        download(f"{address}/set.zip", "0" * 64, tmp_path / "root")
    assert not (tmp_path / "root").exists()
    with pytest.raises(ValueError, match="expected 64 hex digits"):
        download(f"{address}/set.zip", "none", tmp_path / "root")
    with pytest.raises(OSError, match="404"):
        download(f"{address}/other.zip", "0" * 64, tmp_path / "root")


def test_tars_unpack_too(tmp_path):
    archive = make_tar(
        tmp_path / "a.tgz",
        (tar_member("d", tarfile.DIRTYPE), b""),
        (tar_member("d/a"), b"a"),
    )
    assert files_below(unpack(archive, tmp_path / "root")) == ["d/a"]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: make_zip(p, [("good", b""), ("../evil", b"")]),
        lambda p: make_zip(p, [("good", b""), ("/evil", b"")]),
        lambda p: make_zip(p, [("good", b""), ("..\\evil", b"")]),
        lambda p: make_zip(p, [("good", b""), ("C:evil", b"")]),
        lambda p: make_zip(p, [("good", b""), ("GOOD", b"")]),
        lambda p: make_zip(p, [("good", b""), (zip_link(), b"/etc")]),
        lambda p: make_tar(p, (tar_member("good"), b""), (tar_member("../evil"), b"")),
        lambda p: make_tar(p, (tar_member("good"), b""), (tar_member("/evil"), b"")),
        lambda p: make_tar(p, (tar_member("good", tarfile.SYMTYPE, "/etc"), b"")),
        lambda p: make_tar(p, (tar_member("good", tarfile.LNKTYPE, "/etc/passwd"), b"")),
        lambda p: make_tar(p, (tar_member("good", tarfile.CHRTYPE), b"")),
        lambda p: make_tar(p, (tar_member("good"), b""), (tar_member("good"), b"")),
        lambda p: p.write_bytes(b"PK\x03\x04 torn") and p,
        lambda p: p.write_bytes(b"no archive") and p,
    ],
)
def test_evil_archives_leave_nothing(make, tmp_path):
    archive = make(tmp_path / "evil.archive")
    before = files_below(tmp_path)
    with pytest.raises(ValueError, match="unpack: "):
        unpack(archive, tmp_path / "root")
    assert files_below(tmp_path) == before


def test_bombs_are_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "MAX_BYTES", 10**6)
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("zeros", bytes(10**7))
    with pytest.raises(ValueError, match="makes it larger"):
        unpack(archive, tmp_path / "root")
    monkeypatch.setattr(room, "MAX_MEMBERS", 3)
    make_zip(archive, [(str(i), b"") for i in range(4)])
    with pytest.raises(ValueError, match="one of more than 3 files"):
        unpack(archive, tmp_path / "root")
    assert files_below(tmp_path / "root") == []


def test_files_that_are_there_are_not_replaced(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_text("mine")
    archive = make_zip(tmp_path / "a.zip", [("a", b"theirs"), ("b", b"")])
    with pytest.raises(ValueError, match="is already in"):
        unpack(archive, tmp_path / "root")
    assert files_below(tmp_path / "root") == ["a"]
    assert (tmp_path / "root" / "a").read_text() == "mine"


def test_one_file_is_fetched_once(server, tmp_path):
    folder, address = server
    (folder / "net.pth").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    path = tmp_path / "root" / "net.pth"
    assert download_file(f"{address}/net.pth", digest, path) == path
    assert path.read_bytes() == b"weights"
    (folder / "net.pth").unlink()
    assert download_file(f"{address}/net.pth", digest.upper(), path) == path  # it is here
    assert files_below(tmp_path / "root") == ["net.pth"]


def test_one_file_of_another_digest_is_refused(server, tmp_path):
    folder, address = server
    (folder / "net.pth").write_bytes(b"weights")
    path = tmp_path / "root" / "net.pth"
    with pytest.raises(ValueError, match=r"has SHA-256 .*, expected 0000"):
        download_file(f"{address}/net.pth", "0" * 64, path)
    assert files_below(tmp_path / "root") == []
    with pytest.raises(ValueError, match="sha256 is 'unknown', expected 64 hex digits"):
        download_file(f"{address}/net.pth", "unknown", path)
    path.write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"is here, but has SHA-256 .*: remove it"):
        download_file(f"{address}/net.pth", "0" * 64, path)
    assert path.read_bytes() == b"mine"


def test_weights_are_fetched_by_name(server, tmp_path, monkeypatch):
    folder, address = server
    (folder / "net.pth").write_bytes(b"weights")
    entry = weights.Weights(
        "net", "sam", f"{address}/net.pth", hashlib.sha256(b"weights").hexdigest(), 7, "", "", ""
    )
    monkeypatch.setattr(weights, "_WEIGHTS", (entry,))
    assert weights.available_weights() == [entry]
    assert weights.download_weights("net", tmp_path).read_bytes() == b"weights"
    with pytest.raises(ValueError, match=r"no weights 'nets': did you mean 'net'\?"):
        weights.download_weights("nets", tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"expected one of sam_vit_b, .*, mobile_sam\."):
        weights.download_weights("zzz", tmp_path)


def test_known_weights_are_well_formed():
    known = weights.available_weights()
    assert len({entry.name for entry in known}) == len(known) == 4
    for entry in known:
        assert entry.url.startswith("https://")
        assert entry.file.endswith((".pth", ".pt"))
        assert len(bytes.fromhex(entry.sha256)) == 32
        catalog.get_entry(entry.method)
