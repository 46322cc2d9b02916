import subprocess
import sys

import pytest

from netadapt.errors import DefinitionError, UnknownNameError
from netadapt.measure.own_platform import add_platform, remove_platform
from netadapt.measure.platform import load_platform


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "netadapt" / "platforms"


def test_takes_the_changes_and_keeps_the_rest(configuration):
    changes = {"rpc": {"server": "10.0.0.7:9090", "board": "Board 5"}, "runtime.target": {"mcpu": "cortex-a76"}}
    path = add_platform("mine", "rpi4-tvm", changes)
    assert path == configuration / "mine.toml"
    mine, base = load_platform("mine"), load_platform("rpi4-tvm")
    assert (mine.name, mine.rpc.server, mine.rpc.board) == ("mine", "10.0.0.7:9090", "Board 5")
    # A server is not asked for by the key that the tracker knew.
    assert (mine.rpc.tracker, mine.rpc.key) == (None, "")
    assert mine.runtime.target == base.runtime.target.model_copy(update={"mcpu": "cortex-a76"})
    # It is about the board, not about what it was made from.
    assert "Board 5" in mine.card
    assert "Raspberry" not in mine.card
    assert mine.title == base.title
    assert path.read_text().startswith("# The fields are documented")


def test_adds_a_field_that_the_base_does_not_have(configuration):
    add_platform("mine", "adreno-tvm", {"runtime.target": {"mcpu": "cortex-a78"}})
    assert load_platform("mine").runtime.target.mcpu == "cortex-a78"


def test_a_line_of_the_card_is_not_taken_for_a_field(tmp_path):
    base = tmp_path / "base.toml"
    text = (
        'schema_version = 1\nname = "base"\ntitle = "t"\ntier = "device"\ntransport = "rpc"\nmetrics = ["latency"]\n'
        'width_multiple = 1\ncard = """\n[rpc]\nname = no field\n"""\n[runtime]\nname = "ort"\n'
        '[rpc]\nserver = "a:1"\nboard = "b"\n'
    )
    base.write_text(text)
    add_platform("mine", str(base), {"rpc": {"tracker": "b:2", "key": "k"}})
    mine = load_platform("mine")
    assert mine.card.startswith("Wall time of ONNX Runtime on b.")
    assert (mine.rpc.server, mine.rpc.tracker, mine.rpc.key, mine.rpc.board) == (None, "b:2", "k", "b")


def test_an_existing_one_stays(configuration):
    path = add_platform("mine", "rpi4-tvm", {"rpc": {"server": "a:1"}})
    before = path.read_text()
    with pytest.raises(DefinitionError, match="is there already"):
        add_platform("mine", "rpi4-ort", {"rpc": {"server": "b:1"}})
    assert path.read_text() == before


@pytest.mark.parametrize("like", ["linux-x86-tvm", "linux-arm64-tvm", "linux-arm32-tvm", "linux-ort", "adreno-tvm"])
def test_there_is_something_to_start_from_for_every_board_with_linux(like):
    changes = {"rpc": {"server": "[::1]:9090", "board": "A board"}}
    add_platform("mine", like, changes)
    mine = load_platform("mine")
    assert (mine.rpc.server, mine.rpc.board, mine.runtime) == ("[::1]:9090", "A board", load_platform(like).runtime)


@pytest.mark.parametrize("board", ["Board 🦥", 'a "board"', "back\\slash", "bell\x07, delete\x7f", "two\nlines", "é"])
def test_a_board_can_be_called_anything(board):
    add_platform("mine", "linux-ort", {"rpc": {"server": "a:1", "board": board}})
    assert load_platform("mine").rpc.board == board


def test_one_made_from_an_own_one_has_its_own_card():
    add_platform("mine", "linux-ort", {"rpc": {"server": "a:1", "board": "First"}})
    add_platform("other", "mine", {"rpc": {"server": "b:1", "board": "Second"}})
    assert "Second" in load_platform("other").card
    assert "First" not in load_platform("other").card


def test_a_full_disk_leaves_nothing(configuration):
    """Files are limited to what the definition is longer than; only Linux and the like can."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "sys.argv = ['netadapt', *sys.argv[1:]]\n"
        "from netadapt.cli import main\n"
        "main()\n"
    )
    command = ["platforms", "add", "mine", "--like", "linux-ort", "--board", "B", "--server", "a:1"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.strip() == f"netadapt: {configuration}/mine.toml cannot be written: File too large"
    assert not list(configuration.iterdir())


def test_a_folder_that_cannot_be_made_is_told(configuration):
    configuration.parent.write_text("")
    with pytest.raises(DefinitionError, match=r"mine\.toml cannot be written: Not a directory"):
        add_platform("mine", "linux-ort", {"rpc": {"server": "a:1"}})


class TestRemoving:
    def test_one_of_the_users_own(self, configuration):
        path = add_platform("mine", "linux-ort", {"rpc": {"server": "a:1"}})
        assert remove_platform("mine") == path
        assert not path.exists()
        with pytest.raises(DefinitionError, match=r"mine is not there; platforms of your own.*: none"):
            remove_platform("mine")

    def test_one_that_cannot_be_read_any_more(self, configuration):
        path = add_platform("mine", "linux-ort", {"rpc": {"server": "a:1"}})
        path.write_text("nonsense")
        remove_platform("mine")
        assert not path.exists()

    def test_a_bundled_one_stays(self):
        add_platform("mine", "linux-ort", {"rpc": {"server": "a:1"}})
        with pytest.raises(DefinitionError, match=r"rpi4-tvm comes with netadapt and stays; .*: mine"):
            remove_platform("rpi4-tvm")
        assert load_platform("rpi4-tvm")

    def test_one_that_hides_a_bundled_one(self, configuration):
        path = add_platform("mine", "linux-ort", {"rpc": {"server": "a:1", "board": "Hiding"}})
        path.rename(configuration / "rpi4-tvm.toml")
        assert load_platform("rpi4-tvm").rpc.board == "Hiding"
        remove_platform("rpi4-tvm")
        assert load_platform("rpi4-tvm").rpc.board == "Raspberry Pi 4 Model B"

    @pytest.mark.parametrize("name", ["../mine", "/etc/passwd", "", ".", "mine.toml", "a\0b"])
    def test_nothing_else(self, configuration, name):
        outside = configuration.parent / "mine.toml"
        outside.parent.mkdir(parents=True)
        outside.write_text("")
        with pytest.raises(DefinitionError, match="is not there"):
            remove_platform(name)
        assert outside.exists()


@pytest.mark.parametrize(
    ("name", "like", "changes", "error", "reason"),
    [
        ("../x", "rpi4-tvm", {}, DefinitionError, "cannot be the name"),
        ("mine", "no-such", {}, UnknownNameError, "no-such"),
        ("mine", "rpi4-tvm", {"rpc": {"server": "nonsense"}}, DefinitionError, "rpc.server"),
        ("mine", "rpi4-tvm", {"rpc": {"tracker": "a:1"}}, DefinitionError, "needs the key"),
        ("mine", "rpi4-tvm", {"rpc": {"server": "a:0"}}, DefinitionError, "a port is a number from 1 to 65535"),
        ("mine", "rpi4-tvm", {"rpc": {"server": "a:1", "board": "\udcff"}}, DefinitionError, "is not text"),
        ("mine", "rpi4-ort", {"runtime.target": {"mcpu": "cortex-a76"}}, DefinitionError, "for TVM's compiler only"),
        ("x" * 101, "rpi4-tvm", {"rpc": {"server": "a:1"}}, DefinitionError, "at most 100"),
        ("🦥", "rpi4-tvm", {"rpc": {"server": "a:1"}}, DefinitionError, "cannot be the name"),
        ("mine", "ort-local", {"rpc": {"server": "a:1"}}, DefinitionError, "no board to reach; .*linux-ort"),
        ("mine", "tvm-local", {"rpc": {"server": "a:1"}}, DefinitionError, "measures on this machine .*linux-x86-tvm"),
        ("mine", "sim-cortex-a72-tvm", {"rpc": {"server": "a:1"}}, DefinitionError, "is of tier 'simulated'"),
    ],
)
def test_what_cannot_be_used_leaves_no_file(configuration, name, like, changes, error, reason):
    with pytest.raises(error, match=reason):
        add_platform(name, like, changes)
    assert not configuration.exists() or not list(configuration.iterdir())
