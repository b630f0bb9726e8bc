"""Starting the server: fake servers that die, hang, lose the pack or the port."""

import socket
import sys
import time

import pytest

from devtools.environment import Environment, Places
from devtools.messages import Trouble
from devtools.server_process import Server, import_failure, is_free, lay_out

ANSWERS = """
import http.server, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
print("arguments", sys.argv)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def server(tmp_path):
    """A maker of servers whose program is the script given."""

    def make(script, **options):
        path = tmp_path / "fake_server.py"
        path.write_text(script)
        (tmp_path / "base").mkdir(exist_ok=True)
        here = Environment(Places(tmp_path), tmp_path / "python", tmp_path / "host", True)
        command = (sys.executable, str(path))
        return Server(here, tmp_path / "base", tmp_path / "server.log", command=command, **options)

    return make


def test_a_server_that_answers_is_ready_and_ends_with_the_block(server):
    with server(ANSWERS, options=("--extra", "1")) as running:
        assert running.client.get("/system_stats") == {}
        process = running.process
        assert process.poll() is None
        text = running.log_text()
    assert process.poll() is not None
    for part in ("--cpu", "127.0.0.1", "--base-directory", "--disable-api-nodes", "--extra"):
        assert part in text


def test_a_server_that_dies_is_told_with_its_last_words(server):
    script = "import sys; print('loading\\n\\x1b[31mValueError: no such device\\x1b[0m\\n\\n'); sys.exit(3)"
    with pytest.raises(Trouble) as trouble:
        server(script).start()
    said = str(trouble.value)
    assert (
        "ended while starting (exit code 3). Its last words: ValueError: no such device The whole log:"
        in said
    )
    assert "server.log" in said


def test_a_server_that_never_answers_is_given_up_and_ended(server):
    slow = server("import time; time.sleep(60)", patience=0.5)
    begin = time.monotonic()
    with pytest.raises(Trouble, match=r"did not answer within 0 s|did not answer within 1 s"):
        slow.start()
    assert time.monotonic() - begin < 15
    assert slow.process.poll() is not None


def test_a_pack_that_was_not_imported_fails_the_start(server, tmp_path):
    folder = tmp_path / "base" / "custom_nodes" / "tiller"
    line = f"\\x1b[33m[WARNING]\\x1b[0m Cannot import {folder} module for custom nodes: No module named 'cv3'"
    with pytest.raises(
        Trouble, match="could not import the pack tiller: No module named 'cv3' The traceback"
    ):
        server(f'print("{line}", flush=True)' + ANSWERS).start()


def test_import_failures_are_told_apart_by_folder():
    log = "[WARNING] Cannot import /base/custom_nodes/other module for custom nodes: x\n"
    log += "Skip /b/t module for custom nodes due to y"
    assert import_failure(log, "/base/custom_nodes/tiller") is None
    assert import_failure(log, "/base/custom_nodes/other") == "x"
    assert import_failure(log, "/b/t") == "due to y"


def test_a_taken_port_is_told_before_the_start(server):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert not is_free(port)
        asked = server(ANSWERS, port=port)
        with pytest.raises(
            Trouble, match=f"Port {port} of 127.0.0.1 is taken by another program. Choose another"
        ):
            asked.start()
        assert asked.process is None


def test_a_free_port_that_got_lost_is_replaced(server, tmp_path):
    once = (
        "import pathlib, sys\n"
        f"mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "if not mark.exists():\n"
        "    mark.write_text('')\n"
        "    sys.exit('OSError: error while attempting to bind on address: address already in use')\n"
    )
    with server(once + ANSWERS) as running:
        assert running.client.get("/system_stats") == {}
    assert (tmp_path / "mark").exists()


def test_an_interruption_while_starting_leaves_no_server(server, monkeypatch):
    slow = server("import time; time.sleep(60)")

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(slow.client.__class__, "request", interrupted)
    with pytest.raises(KeyboardInterrupt):
        slow.start()
    time.sleep(0.1)
    assert slow.process.poll() is not None


def test_the_base_folder_holds_links_to_the_packs(tmp_path):
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").write_text("")
    lay_out(tmp_path / "base", {"tiller": pack})
    assert (tmp_path / "base" / "custom_nodes" / "tiller" / "__init__.py").is_file()
    assert (tmp_path / "base" / "input").is_dir()
