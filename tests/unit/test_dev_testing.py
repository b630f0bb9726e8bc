"""The test command's counts, totals and exit codes; Chromium found or asked for."""

import subprocess
import sys

import pytest

from devtools import quickstart, testing
from devtools.environment import Environment, Places
from devtools.messages import Trouble
from devtools.testing import Outcome, read_outcome, summary


def report(tmp_path, **counts):
    path = tmp_path / "report.xml"
    attributes = " ".join(f'{key}="{value}"' for key, value in counts.items())
    path.write_text(f"<testsuites><testsuite {attributes}/></testsuites>")
    return path


def test_counts_come_from_the_report(tmp_path):
    path = report(tmp_path, tests=10, failures=2, errors=1, skipped=3)
    assert read_outcome("unit", path, 1, 2.0) == Outcome("unit", 4, 3, 3, 2.0)


@pytest.mark.parametrize(
    ("counts", "code", "broken"),
    [
        ({"tests": 0}, 5, "no test ran"),
        ({"tests": 3, "skipped": 3}, 0, "no test ran"),
        ({"tests": 3}, 2, "pytest ended with 2"),
        ({"tests": 3}, 0, ""),
        ({"tests": 3, "failures": 1}, 1, ""),
    ],
)
def test_a_layer_that_did_not_really_run_is_broken(tmp_path, counts, code, broken):
    assert read_outcome("unit", report(tmp_path, **counts), code, 1.0).broken == broken


def test_a_crash_without_a_report_is_broken(tmp_path):
    assert "no report" in read_outcome("unit", tmp_path / "none.xml", -11, 1.0).broken


@pytest.mark.parametrize(
    ("outcomes", "last", "code"),
    [
        ([Outcome("unit", 5), Outcome("host", 2)], "7 passed, 0 failed", 0),
        ([Outcome("unit", 5, 1, 2)], "5 passed, 1 failed, 2 skipped", 1),
        ([Outcome("unit", 5), Outcome("host", broken="no test ran")], "5 passed, 1 failed", 1),
        ([], "0 passed, 0 failed", 1),
    ],
)
def test_the_last_line_is_the_total_and_agrees_with_the_code(outcomes, last, code):
    text, found = summary(outcomes)
    assert text.splitlines()[-1] == last
    assert found == code


def nothing_on_the_path(monkeypatch):
    monkeypatch.delenv("CHROMIUM_PATH", raising=False)
    monkeypatch.setattr(testing.shutil, "which", lambda name: None)
    monkeypatch.setattr(testing, "CHROMIUM_PLACES", ())


def test_without_chromium_and_apt_the_way_out_is_told(monkeypatch, tmp_path):
    nothing_on_the_path(monkeypatch)
    with pytest.raises(
        Trouble, match=r"need Chromium and none was found. Install it .* or set CHROMIUM_PATH"
    ):
        testing.ensure_chromium(tmp_path / "log")


def test_a_wrong_chromium_path_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("CHROMIUM_PATH", str(tmp_path / "gone"))
    with pytest.raises(Trouble, match="CHROMIUM_PATH must name the Chromium program"):
        testing.find_chromium()


def test_chromium_is_installed_where_this_may_be_done(monkeypatch, tmp_path):
    nothing_on_the_path(monkeypatch)
    monkeypatch.setattr(testing, "may_install", lambda: True)
    monkeypatch.setattr(testing, "CJK_FONTS", tmp_path / "no-fonts")
    calls = []

    def run_logged(command, *rest):
        calls.append(command)
        if "install" in command:
            monkeypatch.setattr(testing.shutil, "which", lambda name: "/usr/bin/chromium")
        return 0, ""

    monkeypatch.setattr(testing, "run_logged", run_logged)
    assert testing.ensure_chromium(tmp_path / "log") == "/usr/bin/chromium"
    assert calls == [["apt-get", "update"], ["apt-get", "install", "-y", "chromium", "fonts-noto-cjk"]]


def test_the_browser_layer_without_chromium_fails_and_the_others_still_run(monkeypatch, tmp_path, capsys):
    nothing_on_the_path(monkeypatch)
    monkeypatch.setattr(testing.models, "ensure_standins", lambda *arguments: tmp_path)
    monkeypatch.setattr(testing, "run_layer", lambda environment, layer, *rest: Outcome(layer, 1))
    assert testing.test(made(tmp_path), (), ()) == 1
    shown = capsys.readouterr()
    assert "need Chromium" in shown.err
    assert shown.out.splitlines()[-1] == "3 passed, 1 failed"


@pytest.mark.parametrize(
    ("layer", "extra", "cores", "wanted"),
    [
        ("unit", (), 2, ["-n", "2", "--dist", "loadfile"]),
        ("host", ("-k", "curve"), 16, ["-n", "4", "--dist", "loadfile"]),
        ("host", (), 1, []),
        ("host", (), None, []),
        ("browser", (), 8, []),
        ("workflows", (), 8, []),
        ("unit", ("-n", "3"), 8, []),
        ("unit", ("-n0",), 8, []),
        ("unit", ("--pdb",), 8, []),
    ],
)
def test_layers_without_a_shared_server_use_every_core(layer, extra, cores, wanted):
    assert testing.processes(layer, extra, cores) == wanted


def made(tmp_path):
    return Environment(Places(tmp_path), tmp_path / "python", tmp_path / "host", True)


def test_an_unknown_measurement_names_the_known_ones(tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "hints.py").write_text("")
    with pytest.raises(Trouble, match="bench needs one of hints, got hunts") as trouble:
        testing.bench(made(tmp_path), "hunts", ())
    assert trouble.value.code == 2


def test_a_missing_recipe_is_told(tmp_path):
    with pytest.raises(Trouble, match=r"workflows/api/quickstart\.json is missing. Restore it"):
        quickstart.recipe(made(tmp_path))


def test_pytest_does_not_see_the_repository_on_its_path(tmp_path):
    (tmp_path / "pytest.py").write_text("def main(arguments): return 7")
    done = subprocess.run([sys.executable, "-c", testing.PYTEST, "--version"], cwd=tmp_path, check=False)
    assert done.returncode == 0
