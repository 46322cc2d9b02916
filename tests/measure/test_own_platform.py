import pytest

from netadapt.errors import DefinitionError, UnknownNameError
from netadapt.measure.own_platform import add_platform
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
    assert mine.card == base.card
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
    assert mine.card == "[rpc]\nname = no field\n"
    assert (mine.rpc.server, mine.rpc.tracker, mine.rpc.key, mine.rpc.board) == (None, "b:2", "k", "b")


def test_an_existing_one_stays(configuration):
    path = add_platform("mine", "rpi4-tvm", {"rpc": {"server": "a:1"}})
    before = path.read_text()
    with pytest.raises(DefinitionError, match="is there already"):
        add_platform("mine", "rpi4-ort", {"rpc": {"server": "b:1"}})
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("name", "like", "changes", "error", "reason"),
    [
        ("../x", "rpi4-tvm", {}, DefinitionError, "cannot be the name"),
        ("mine", "no-such", {}, UnknownNameError, "no-such"),
        ("mine", "rpi4-tvm", {"rpc": {"server": "nonsense"}}, DefinitionError, "rpc.server"),
        ("mine", "rpi4-tvm", {"rpc": {"tracker": "a:1"}}, DefinitionError, "needs the key"),
        ("mine", "ort-local", {"rpc": {"server": "a:1"}}, DefinitionError, 'only transport "rpc"'),
    ],
)
def test_what_cannot_be_used_leaves_no_file(configuration, name, like, changes, error, reason):
    with pytest.raises(error, match=reason):
        add_platform(name, like, changes)
    assert not configuration.exists() or not list(configuration.iterdir())
