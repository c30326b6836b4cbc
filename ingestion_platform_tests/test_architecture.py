"""
What the rooms may know of each other, and the habits that hold in all of them.

Belongs here: rules that a reader of any file may rely on. Doesn't: who may import whom, which `pyproject.toml` tells import-linter.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ingestion_platform"
TESTS = ROOT / "ingestion_platform_tests"
SCRIPTS = ROOT / "scripts"
MODULES = sorted(PACKAGE.rglob("*.py"))
EVERYTHING = [*MODULES, *sorted(TESTS.rglob("*.py")), *sorted(SCRIPTS.rglob("*.py"))]

OWN_WORDS = {"datasets", "sql", "demo"}
"""Rooms that may speak of single datasets."""

NOT_OURS = {
    ".git",
    ".servers",
    ".venv",
    "build",
    "data",
    "dist",
    ".hypothesis",
    ".import_linter_cache",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _place(path: Path, node: ast.AST) -> str:
    return f"{_name(path)}:{getattr(node, 'lineno', 1)}"


def _prose(tree: ast.Module) -> set[int]:
    """Identities of the constants that a person reads and no code does: docstrings, and what a command line's help says."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return docstrings | {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "help"
    }


def _own_files() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_OURS and not name.endswith(".egg-info")]
        yield from (Path(folder, name) for name in files if name not in (".env", "ingestion.env"))


@pytest.mark.parametrize("path", EVERYTHING, ids=_name)
def test_every_module_has_a_sign_on_its_door(path: Path) -> None:
    """Every module opens with a docstring that says what belongs in it."""
    tree = _tree(path)
    assert not tree.body or ast.get_docstring(tree), f"{_name(path)} has no docstring"


def test_every_test_states_its_fact() -> None:
    """Every test has a docstring, and it is one sentence or more."""
    silent = [
        f"{_place(path, node)} {node.name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if not (ast.get_docstring(node) or "").rstrip().endswith((".", "!", "?"))
    ]
    assert silent == []


def test_no_test_is_left_out() -> None:
    """No test is skipped or expected to fail, by a mark or by a call."""
    left_out = re.compile(r"^(skip|skipif|skipIf|skipUnless|xfail|importorskip|SkipTest)$")
    found = [
        _place(path, node)
        for path in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Attribute) and left_out.match(node.attr)
        if ast.unparse(node.value) in {"pytest", "pytest.mark", "mark", "unittest"}
    ]
    assert found == []


def test_nothing_is_left_to_do_in_a_comment() -> None:
    """No source file holds a note of unfinished work: such a note is an issue or nothing."""
    note = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
    files = [*EVERYTHING, *PACKAGE.rglob("*.sql"), *SCRIPTS.glob("*.sh"), ROOT / "Makefile", ROOT / ".ci" / "run"]
    assert [_name(path) for path in files if note.search(path.read_text(encoding="utf-8"))] == []


def test_only_settings_reads_the_environment() -> None:
    """`os.environ` and `os.getenv` are named in settings.py alone; everything else is handed a `Settings`."""
    names = {"environ", "environb", "getenv", "getenvb"}
    found = [
        _place(path, node)
        for path in MODULES
        if path != PACKAGE / "settings.py"
        for node in ast.walk(_tree(path))
        if (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and names & {alias.name for alias in node.names})
    ]
    assert found == []


LANDED_BY_US = {"alerts"}
"""What the platform itself lands, whatever the business is."""


def _names_of_tables() -> set[str]:
    from ingestion_platform import datasets
    from ingestion_platform.dataset import find_datasets

    return {*find_datasets(datasets), *(path.stem for path in (PACKAGE / "sql").rglob("*.sql"))} - LANDED_BY_US


def _words(node: ast.AST) -> Iterator[str]:
    """The identifiers of one node."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.alias(name=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.keyword(arg=str(name)):
            yield name


def test_no_shared_code_knows_one_dataset() -> None:
    """Outside the declarations, the SQL files and the demo, no identifier and no name in a string is that of a dataset or report."""
    tables = "|".join(sorted(map(re.escape, _names_of_tables()), key=len, reverse=True))
    identifier = re.compile(rf"(?<![a-z])(?:{tables})(?![a-z])")
    qualified = re.compile(rf"\b(?:raw|processed|reports|landing)[./](?:{tables})\b")
    found = []
    for path in MODULES:
        if path.relative_to(PACKAGE).parts[0] in OWN_WORDS:
            continue
        tree = _tree(path)
        prose = _prose(tree)
        for node in ast.walk(tree):
            if any(identifier.search(word) for word in _words(node)):
                found.append(_place(path, node))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                # A sentence may speak of "products"; a string without blanks is a name, and `raw.x` is one anywhere.
                is_name = " " not in node.value and identifier.search(node.value)
                if is_name or qualified.search(node.value):
                    found.append(_place(path, node))
    assert found == []


def test_no_file_knows_where_packages_come_from() -> None:
    """No file holds the address of a package registry: which one is used is the machine's business."""
    hosts = "|".join(("pypi", "pythonhosted", "npmjs", "maven", "conda", "anaconda", "crates", "rubygems"))
    address = re.compile(
        rf"(?:https?|git\+\w+)://[^\s/]*(?:{hosts})|--(?:extra-)?index-url[ =]\S|registry\s*=\s*\"http"
    )
    found = [
        _name(path)
        for path in _own_files()
        if path.suffix not in {".png", ".parquet", ".gz", ".duckdb", ".pyc"}
        if address.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


def test_every_locked_package_has_hashes() -> None:
    """Each package of both lock files is pinned to one version and to the digests of its files."""
    for lock in (ROOT / "requirements.lock", ROOT / "requirements-bootstrap.lock"):
        entries = re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8"))
        packages = [entry for entry in entries if not entry.startswith("#")]
        assert packages
        loose = [entry.splitlines()[0] for entry in packages if "==" not in entry or "--hash=sha256:" not in entry]
        assert loose == [], lock.name


def test_every_asked_for_package_is_locked() -> None:
    """What pyproject.toml asks for is in the lock file: whoever adds a dependency also runs `make lock`."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[^A-Za-z0-9_.-]", entry, maxsplit=1)[0].lower() for entry in wanted}
    locked = set(
        re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert names - locked == set()


IMPORT_QUIETLY = """
import importlib, pathlib, sys, sysconfig

package = pathlib.Path(sys.argv[1])
libraries = tuple({str(pathlib.Path(path).resolve()) + "/" for path in
    (sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *[entry for entry in sys.path if entry])
    if pathlib.Path(path).is_dir() and pathlib.Path(path).resolve() not in package.parents and pathlib.Path(path).resolve() != package})
system = ("/dev/", "/etc/", "/proc/", "/sys/", "/usr/share/zoneinfo", "/usr/lib", "/lib")
current, found = None, []

def watch(event, arguments):
    if current is None:
        return
    what = ""
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, bytes):
            path = path.decode("utf-8", "replace")
        if not isinstance(path, str):
            return
        place = str(pathlib.Path(path).absolute())
        writes = bool(flags & 3) or (isinstance(mode, str) and any(letter in mode for letter in "wax+"))
        is_code = place.startswith(str(package) + "/") and place.endswith((".py", ".sql"))
        is_cache = "__pycache__" in place
        is_foreign = place.startswith((*libraries, *system)) or place.endswith((".pth", ".dist-info/METADATA"))
        if not is_cache and (writes and place != "/dev/null" or not (is_code or is_foreign)):
            what = f"{'writes' if writes else 'reads'} {place}"
    elif event.startswith(("socket.connect", "socket.bind", "socket.getaddrinfo", "sqlite3.connect", "subprocess.Popen", "os.system",
                           "os.remove", "os.rename", "os.rmdir", "os.mkdir", "shutil.", "tempfile.", "ftplib.", "urllib.Request")):
        if "__pycache__" not in repr(arguments):
            what = f"{event} {arguments!r}"
    if what:
        frame = sys._getframe()
        while frame is not None and not frame.f_code.co_filename.startswith(str(package) + "/"):
            frame = frame.f_back
        found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {what}" if frame else f"{current}: {what}")

# What libraries do while they are imported is theirs: only what is ours is watched.
for library in ("pydantic_settings", "duckdb", "pandas", "pyarrow.parquet", "sqlglot", "boto3", "stamina", "msgspec", "tqdm",
                "httpcore", "asyncssh", "fsspec", "dagster", "dagster._core.definitions"):
    importlib.import_module(library)

import duckdb
really_connect = duckdb.connect
def connect(database=":memory:", *arguments, **options):
    # A database in memory is a parser: definitions.py asks one what each query reads.
    if database == ":memory:":
        return really_connect(database, *arguments, **options)
    place = sys._getframe(1)
    found.append(f"{place.f_code.co_filename}:{place.f_lineno} opens DuckDB {database!r}")
    raise RuntimeError("no DuckDB file while importing")
duckdb.connect = connect

sys.path.insert(0, str(package.parent))
sys.addaudithook(watch)
for name in sys.argv[2:]:
    current = name
    importlib.import_module(name)
current = None
print("\\n".join(found))
"""


def test_importing_does_nothing(tmp_path: Path) -> None:
    """Importing any module of the platform opens no data file, no socket, no process and no database file, and writes nothing."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if path.name != "__main__.py"
    ]
    # An empty home and folder: nothing of this machine can be read, and whatever appears in them was written.
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT_QUIETLY, str(PACKAGE), *modules],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == ""
    assert list(tmp_path.iterdir()) == []


def test_the_readme_shows_the_rooms() -> None:
    """The rooms that README.md draws are the folders and modules of the package, no more and no fewer."""
    drawn = re.search(
        r"^ingestion_platform/\n((?:[ │├└─]+\S.*\n)+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert drawn is not None, "README.md draws no tree that begins with ingestion_platform/"
    rooms = {line.split()[0] for line in re.sub(r"[│├└─]", " ", drawn[1]).splitlines()}
    there = {
        path.name + ("/" if path.is_dir() else "")
        for path in PACKAGE.iterdir()
        if not path.name.startswith(("_", ".")) and (path.suffix == ".py" or any(path.rglob("*.*")))
    }
    assert rooms == there
