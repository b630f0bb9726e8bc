"""Setting up: fake pips and archives, real sentences."""

import hashlib
import io
import json
import os
import re
import sys
import tarfile
from pathlib import Path

import pytest

from devtools import environment, host_source, links, messages
from devtools.environment import Environment, Places
from devtools.messages import Trouble, last_line, pip_trouble

ROOT = Path(__file__).resolve().parent.parent.parent

NETWORK = """WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(
Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')'
ERROR: Could not find a version that satisfies the requirement torch==2.11.0 (from versions: none)"""
FULL = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"


def fake_pip(tmp_path, says, code=1):
    script = tmp_path / "pip.py"
    script.write_text(
        f"import json, os, sys\nprint({says!r})\n"
        f"open({str(tmp_path / 'seen.json')!r}, 'w').write(json.dumps([sys.argv[1:], dict(os.environ)]))\n"
        f"sys.exit({code})\n"
    )
    return [sys.executable, str(script)]


def make_host(folder):
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").write_text("")
    (folder / "requirements.txt").write_text("torch\n")
    return folder


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        (NETWORK, "needs the package index and could not reach it. Connect to the network"),
        (FULL, "is full. Free some space"),
        (NETWORK + FULL, "is full. Free some space"),
        ("ERROR: ResolutionImpossible: for help", "do not fit to those that are there"),
        ("ERROR: something else\nnoise", "failed: ERROR: something else Look into"),
        ("", "failed: (it said nothing) Look into"),
    ],
    ids=["network", "disk", "disk-and-network", "conflict", "other", "silent"],
)
def test_a_failing_pip_is_told_in_one_sentence(tmp_path, says, sentence):
    with pytest.raises(Trouble, match=re.escape(sentence)) as trouble:
        environment.install(fake_pip(tmp_path, says), ["torch"], tmp_path / "log", "Installing")
    assert "\n" not in str(trouble.value)


def test_pip_looks_into_no_folder_of_wheels_and_keeps_no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "/some/wheels")
    environment.install(fake_pip(tmp_path, "fine", 0), ["torch"], tmp_path / "log", "Installing")
    arguments, variables = json.loads((tmp_path / "seen.json").read_text())
    assert variables["PIP_FIND_LINKS"] == ""
    assert "--no-cache-dir" in arguments
    assert (tmp_path / "log").read_text().strip() == "fine"


def test_a_failing_download_of_the_host_says_why(tmp_path):
    with pytest.raises(Trouble, match=r"Getting the ComfyUI source .* could not reach it"):
        host_source.fetch(
            fake_pip(tmp_path, NETWORK), {}, tmp_path / "host", tmp_path / "dl", tmp_path / "log"
        )


def archive_of(tmp_path, names):
    path = tmp_path / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            data = name.encode()
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("pack/vendor/ComfyUI/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


INSIDE = "pack/vendor/ComfyUI"


def test_only_the_hosts_folder_is_unpacked_and_no_links(tmp_path):
    names = [f"{INSIDE}/main.py", f"{INSIDE}/comfy/ops.py", "pack/setup.py", "pack/vendor/ComfyUI2/x.py"]
    host_source.unpack(archive_of(tmp_path, names), tmp_path / "host", INSIDE)
    found = {
        p.relative_to(tmp_path / "host").as_posix() for p in (tmp_path / "host").rglob("*") if not p.is_dir()
    }
    assert found == {"main.py", "comfy/ops.py"}


def test_a_path_that_leaves_the_folder_is_refused(tmp_path):
    names = [f"{INSIDE}/main.py", f"{INSIDE}/comfy/ops.py", f"{INSIDE}/../../../evil.py"]
    with pytest.raises(Trouble, match="unsafe path"):
        host_source.unpack(archive_of(tmp_path, names), tmp_path / "a" / "host", INSIDE)
    assert not list(tmp_path.rglob("evil.py"))


def test_an_archive_without_the_host_is_refused(tmp_path):
    with pytest.raises(Trouble, match="holds no ComfyUI"):
        host_source.unpack(archive_of(tmp_path, ["pack/readme"]), tmp_path / "host", INSIDE)
    assert not (tmp_path / "host").exists()


def test_another_archive_than_the_pinned_one_is_removed(tmp_path):
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(b"other")
    digest = hashlib.sha256(b"other").hexdigest()
    host_source.verify(path, digest)
    with pytest.raises(Trouble, match=f"{host_source.SHA256}, got {digest}"):
        host_source.verify(path)
    assert not path.exists()


def test_a_full_disk_is_seen_beforehand(tmp_path):
    environment.check_disk(tmp_path, 0)
    with pytest.raises(
        Trouble, match=r"needs about 999999 GB of free disk, .* has \d+\.\d GB. Free some space"
    ):
        environment.check_disk(tmp_path, 999_999)


def test_the_dev_requirements_are_those_of_pyproject():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert environment.dev_requirements(ROOT) == project["optional-dependencies"]["dev"]
    assert "pytest" in " ".join(environment.dev_requirements(ROOT))


def test_comfyui_path_must_be_a_comfyui(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(Trouble, match="COMFYUI_PATH must name a ComfyUI folder"):
        host_source.users_host(tmp_path)
    make_host(tmp_path)
    assert host_source.users_host(tmp_path / "elsewhere") == tmp_path


def test_a_clone_in_custom_nodes_finds_its_comfyui(tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    host = make_host(tmp_path / "ComfyUI")
    assert host_source.users_host(host / "custom_nodes" / "tiller") == host
    assert host_source.users_host(host / "other" / "tiller") is None
    assert host_source.users_host(tmp_path / "custom_nodes" / "tiller") is None


def test_the_hosts_python_is_found_in_the_order_told(tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    host = make_host(tmp_path / "ComfyUI")
    assert host_source.hosts_python(host) == Path(sys.executable)
    expected = [
        tmp_path / "python_embeded" / "python.exe",
        host_source.venv_python(host / ".venv"),
        host_source.venv_python(host / "venv"),
        tmp_path / "named",
    ]
    for program in expected:
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("")
        if program.name == "named":
            monkeypatch.setenv("COMFYUI_PYTHON", str(program))
        assert host_source.hosts_python(host) == program
    monkeypatch.setenv("COMFYUI_PYTHON", str(tmp_path / "gone"))
    with pytest.raises(Trouble, match="COMFYUI_PYTHON must name a Python program"):
        host_source.hosts_python(host)


def test_a_python_without_venv_is_answered_with_the_package_to_install(tmp_path, monkeypatch):
    facts = {"venv": False, "version": list(sys.version_info[:2])}
    monkeypatch.setattr(environment, "describe", lambda python: facts)
    with pytest.raises(Trouble, match=r"apt-get install python3\.\d+-venv"):
        environment.make_venv(Path(sys.executable), Places(tmp_path), tmp_path / "log")
    facts["version"] = [3, 1]
    with pytest.raises(Trouble, match=r"Install Python 3.1 beside it"):
        environment.make_venv(tmp_path / "embedded.exe", Places(tmp_path), tmp_path / "log")


@pytest.fixture
def working_copy(tmp_path, monkeypatch):
    """A working copy over a user's host, with every installation noted instead of done."""
    calls = []
    root = tmp_path / "copy"
    root.mkdir()
    (root / "requirements.txt").write_text("segno\n")
    (root / "pyproject.toml").write_text('dev = [\n  "pytest>=8",\n]\n')
    host = make_host(tmp_path / "ComfyUI")
    monkeypatch.setenv("COMFYUI_PATH", str(host))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    monkeypatch.setattr(environment, "install", lambda pip, requirements, *rest: calls.append(requirements))
    facts = {"torch": True, "venv": True, "version": [3, 11], "packages": ["/the/users/site-packages"]}
    monkeypatch.setattr(environment, "describe", lambda python: facts)
    monkeypatch.setattr(environment, "_site_packages", lambda python: python.parent)

    def make_venv(python, places, log):
        environment.venv_python(places.venv).parent.mkdir(parents=True, exist_ok=True)
        environment.venv_python(places.venv).write_text("")

    monkeypatch.setattr(environment, "make_venv", make_venv)
    return root, calls, facts


def test_the_second_call_installs_nothing_and_a_changed_requirement_does(working_copy):
    root, calls, _ = working_copy
    ready = environment.prepare(root)
    assert len(calls) == 1
    assert environment.prepare(root) == ready
    assert len(calls) == 1
    (root / "requirements.txt").write_text("segno\nopencv-python\n")
    environment.prepare(root)
    assert len(calls) == 2
    (root / "pyproject.toml").write_text('dev = [\n  "pytest>=9",\n]\n')
    environment.prepare(root)
    assert "pytest>=9" in calls[2]


def test_another_name_of_the_same_python_changes_nothing(working_copy, monkeypatch):
    root, calls, _ = working_copy
    monkeypatch.delenv("COMFYUI_PATH")
    monkeypatch.setattr(environment, "check_disk", lambda *arguments: None)
    monkeypatch.setattr(host_source, "fetch", lambda pip, variables, target, *rest: make_host(target))
    environment.prepare(root)
    assert [part for part in calls[0] if part.startswith("torch==")]
    monkeypatch.setattr(environment.sys, "executable", "/usr/bin/another-name-of-python")
    environment.prepare(root)
    assert len(calls) == 1


def test_an_interrupted_set_up_is_taken_up_again(working_copy, monkeypatch):
    root, calls, _ = working_copy
    good = environment.install

    def broken(*arguments):
        raise Trouble("no network")

    monkeypatch.setattr(environment, "install", broken)
    with pytest.raises(Trouble):
        environment.prepare(root)
    monkeypatch.setattr(environment, "install", good)
    environment.prepare(root)
    assert len(calls) == 1


def test_a_failed_repair_is_not_taken_for_done(working_copy, monkeypatch):
    root, calls, _ = working_copy
    good = environment.install
    environment.prepare(root).python.unlink()

    def broken(*arguments):
        raise Trouble("no network")

    monkeypatch.setattr(environment, "install", broken)
    with pytest.raises(Trouble):
        environment.prepare(root)
    monkeypatch.setattr(environment, "install", good)
    environment.prepare(root)
    assert len(calls) == 2


def test_a_disk_too_full_for_the_log_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(messages, "NOTHING_LEFT", 10**18)
    with pytest.raises(Trouble, match="is full"):
        environment.install(fake_pip(tmp_path, ""), ["torch"], tmp_path / "log", "Installing")


def test_the_users_packages_are_seen_kept_and_never_replaced(working_copy):
    root, calls, _ = working_copy
    ready = environment.prepare(root)
    lines = (ready.python.parent / "tiller_host.pth").read_text().splitlines()
    assert "/the/users/site-packages" in lines
    assert not [part for part in calls[0] if part.startswith("torch")]
    constraints = Path(calls[0][calls[0].index("-c") + 1]).read_text().splitlines()
    assert any(line.startswith("pytest==") for line in constraints)


def test_a_host_python_without_torch_is_answered(working_copy):
    root, _, facts = working_copy
    facts["torch"] = False
    with pytest.raises(Trouble, match="needs a Python with torch"):
        environment.prepare(root)


def test_a_linked_folder_shows_the_source_and_is_replaced_not_emptied(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    link = tmp_path / "base" / "custom_nodes" / "pack"
    links.link_folder(source, link)
    links.link_folder(source, link)
    assert (link / "file").read_text() == "x"
    links.link_folder(tmp_path / "base", link)
    assert (source / "file").exists()
    links.remove(link)
    assert not link.exists()
    assert (tmp_path / "base").is_dir()


@pytest.mark.skipif(os.name == "nt", reason="junctions come first there")
def test_where_links_are_refused_the_folder_is_copied(tmp_path, monkeypatch):
    source = tmp_path / "source"
    (source / ".git").mkdir(parents=True)
    (source / "file").write_text("x")

    def refused(*arguments, **options):
        raise OSError("not allowed")

    monkeypatch.setattr(Path, "symlink_to", refused)
    links.link_folder(source, tmp_path / "copy")
    assert (tmp_path / "copy" / "file").read_text() == "x"
    assert not (tmp_path / "copy" / ".git").exists()


def test_a_hard_link_follows_a_new_source(tmp_path):
    one, two, link = tmp_path / "one", tmp_path / "two", tmp_path / "models" / "x"
    one.write_text("1")
    two.write_text("2")
    links.link_file(one, link)
    links.link_file(two, link)
    assert link.read_text() == "2"
    assert one.read_text() == "1"


def test_stamp_of_an_environment_without_its_python_is_not_believed(working_copy):
    root, calls, _ = working_copy
    ready = environment.prepare(root)
    ready.python.unlink()
    environment.prepare(root)
    assert len(calls) == 2


def test_variables_name_host_and_python(tmp_path):
    made = Environment(Places(tmp_path), tmp_path / "python", tmp_path / "host", True)
    assert made.variables == {
        "COMFYUI_PATH": str(tmp_path / "host"),
        "COMFYUI_PYTHON": str(tmp_path / "python"),
    }


def test_the_last_line_is_without_colours_and_rulers():
    assert last_line("first\n\x1b[31mlast one\x1b[0m\n-----\n\n") == "last one"
    assert last_line("\x1b[0m\n") == "(it said nothing)"


def test_a_pip_sentence_names_its_log(tmp_path):
    assert str(tmp_path / "setup.log") in pip_trouble("Installing", "ERROR: x", tmp_path / "setup.log")
