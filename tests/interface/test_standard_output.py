import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from netadapt.standard_output import nothing_printed, only_results, write_result


def test_only_results_reach_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with only_results():
        print("from Python")
        os.write(1, b"from C\n")
        write_result("{}\n")
        print("after")
    print("outside")
    out, err = capfd.readouterr()
    assert out == "{}\noutside\n"
    assert err == "from Python\nfrom C\nafter\n"


def test_results_are_there_when_the_block_is_left_early(capfd: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        with only_results():
            write_result("{}\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capfd.readouterr().out == "{}\n"


def test_nothing_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with nothing_printed():
        print("from Python")
        os.write(1, b"from C\n")
    print("outside")
    assert capfd.readouterr().out == "outside\n"


def test_a_network_that_prints_leaves_json_alone(tmp_path: Path) -> None:
    (tmp_path / "talkative.py").write_text(
        "import os\n"
        "from torch import nn, zeros\n"
        "class Network(nn.Conv2d):\n"
        "    def forward(self, images):\n"
        "        print('hello')\n"
        "        os.write(1, b'hello from C')\n"
        "        return super().forward(images)\n"
        "def network():\n"
        "    print('made')\n"
        "    return Network(3, 4, 1), zeros(1, 3, 4, 4)\n"
    )
    command = [sys.executable, "-c", "from netadapt.cli import main; main()", "measure", "talkative:network", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["metrics"]["latency"]["value"] > 0
    assert "hello" in done.stderr
