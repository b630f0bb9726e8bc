"""What importing the pack costs inside the host, beyond what the host has loaded already.

`python3 dev.py bench import_cost`: seven fresh interpreters load the host's own nodes first, then the
pack; the time of the second part is printed, and which packages it brought in.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = 7

PROBE = """
import asyncio, json, sys, time
sys.path.insert(0, sys.argv[2]); sys.argv = ["probe", "--cpu"] + sys.argv[1:2]
root = sys.argv.pop()
import comfy.options; comfy.options.enable_args_parsing()
import nodes
asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
before = set(sys.modules)
import importlib.util
start = time.perf_counter()
init = root + "/__init__.py"
spec = importlib.util.spec_from_file_location("tiller_pack", init, submodule_search_locations=[root])
pack = importlib.util.module_from_spec(spec)
sys.modules["tiller_pack"] = pack
spec.loader.exec_module(pack)
seconds = time.perf_counter() - start
new = {m for m in set(sys.modules) - before if not m.startswith("tiller_pack")}
print(json.dumps({"ms": seconds * 1e3, "nodes": len(pack.NODE_CLASS_MAPPINGS), "new": sorted(new)}))
"""


def main() -> int:
    """Print the median, the spread and the modules that came along."""
    runs = []
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, "-c", PROBE, str(ROOT), os.environ["COMFYUI_PATH"]],
            capture_output=True, text=True, check=True, cwd=os.environ["COMFYUI_PATH"],
        )  # fmt: skip
        runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
    times = sorted(run["ms"] for run in runs)
    count, middle = runs[0]["nodes"], statistics.median(times)
    print(f"import of {count} nodes, {RUNS} fresh processes: median {middle:.1f} ms,")
    print(f"  from {times[0]:.1f} to {times[-1]:.1f} ms; goal under 150 ms")
    print(f"  modules brought in besides our own: {', '.join(runs[0]['new']) or 'none'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
