"""What holds for the repository as a whole, whatever its code does."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (ROOT / "extproc" / "thruway_extproc", ROOT / "operator" / "thruway_operator")
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
TOOLS = sorted((ROOT / "tools").glob("*.py"))
LONGEST_MODULE = 600  # lines

# Put together here, so that this file does not contain what it looks for.
REGISTRIES = tuple(
    ".".join(labels)
    for labels in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("proxy", "golang", "org"),
        ("repo", "maven", "apache", "org"),
        ("crates", "io"),
        ("deb", "debian", "org"),
    )
)
REGISTRY = re.compile("|".join(rf"\b{re.escape(host)}\b" for host in REGISTRIES), re.IGNORECASE)
# Paths of one machine: a checkout, somebody's home, somebody's scratch file.
MACHINE_PATH = re.compile(
    r"(?<![\w.$}/-])/(?:work/(?:main|shared)|root/|home/\w|Users/\w|tmp/\w)[\w./-]*"
)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def repository_files() -> list[Path]:
    """List the files that are, or would be, in git."""
    if (ROOT / ".git").exists():
        # In a container the checkout often belongs to somebody else, which git would refuse.
        command = ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z"]
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    else:
        paths = (Path(folder, file) for folder, file in walk_unignored())
    return sorted(path for path in paths if path.is_file())


def walk_unignored() -> Iterator[tuple[str, str]]:
    """Walk a copy that has no git; what .gitignore names are folders."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").split()]
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name for name in folders if not any(fnmatch(name, pattern) for pattern in ignored)
        ]
        yield from ((folder, file) for file in files)


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in repository_files():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{named(path)}:{number}: {match.group()}")
    return found


def test_operator_holds_no_python_file_of_its_own() -> None:
    """It would be imported in place of Python's own `operator` from the repository's root."""
    own = [named(path) for path in (ROOT / "operator").glob("*.py")]
    own += [named(path) for path in (ROOT / "tests" / "operator").glob("__init__.py")]
    assert own == []


def test_pythons_own_operator_is_imported_at_the_root() -> None:
    code = "import operator; print(operator.itemgetter(0)('x'), operator.__file__)"
    command = [sys.executable, "-S", "-c", code]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    answer = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    letter, _, file = answer.partition(" ")
    assert letter == "x"
    assert not Path(file).is_relative_to(ROOT / "operator")


def test_no_file_names_a_registry() -> None:
    """Where packages come from is the user's to say: pip's and uv's own settings."""
    assert lines_with(REGISTRY) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert lines_with(MACHINE_PATH) == []


@pytest.mark.parametrize(
    ("text", "flagged"),
    [
        ("cd /{}/main", True),
        ("/{}/shared/x.md", True),
        ("https://example.com/{}/main", False),
        ("the frame/{}/main", False),
    ],
)
def test_what_counts_as_a_path_of_one_machine(text: str, flagged: bool) -> None:
    assert bool(MACHINE_PATH.search(text.format("work"))) is flagged


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_package_has_a_charter(package: Path) -> None:
    """The docstring of `__init__` says what the package does and what it never does."""
    folders = {path.parent for path in package.rglob("*.py")} | {package}
    missing = [
        named(folder)
        for folder in sorted(folders)
        if not (folder / "__init__.py").is_file() or not ast.get_docstring(parse(folder))
    ]
    assert missing == []


def test_a_package_that_reexports_says_what() -> None:
    silent = [
        named(module)
        for module in MODULES
        if module.name == "__init__.py"
        and reexports(tree := parse(module))
        and exports(tree) is None
    ]
    assert silent == []


def test_beside_all_there_is_no_other_public_name() -> None:
    """Private by underscore, public by `__all__`."""
    unsaid = {}
    for module in MODULES:
        tree = parse(module)
        exported = exports(tree)
        if exported is not None and (names := public_definitions(tree) - exported):
            unsaid[named(module)] = sorted(names)
    assert unsaid == {}


def test_no_module_is_too_long() -> None:
    lengths = {named(path): path.read_text("utf-8").count("\n") for path in (*MODULES, *TOOLS)}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def parse(path: Path) -> ast.Module:
    file = path / "__init__.py" if path.is_dir() else path
    return ast.parse(file.read_text("utf-8"), str(file))


def exports(tree: ast.Module) -> set[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                return set(ast.literal_eval(node.value))
    return None


def reexports(tree: ast.Module) -> bool:
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    return any((node.module or "").startswith("thruway_") or node.level for node in imports)


def public_definitions(tree: ast.Module) -> set[str]:
    """Name the classes and functions; a decorated function may be for its decorator alone."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    names = {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        or (isinstance(node, functions) and not node.decorator_list)
    }
    return {name for name in names if not name.startswith("_")}


def test_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    declared = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert declared is not None
    if (make := shutil.which("make")) is None:
        pytest.skip("make is not installed")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    shown = subprocess.run(
        [make, "help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert re.findall(r"^  ([\w-]+)  +\S", shown, re.MULTILINE) == declared[1].split()


def test_versions_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    chart = yaml.safe_load((ROOT / "charts" / "thruway" / "Chart.yaml").read_text("utf-8"))
    values = yaml.safe_load((ROOT / "charts" / "thruway" / "values.yaml").read_text("utf-8"))
    image = (ROOT / "Dockerfile").read_text("utf-8")
    install = (ROOT / "docs" / "install.md").read_text("utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    releases = re.findall(r"^## \[(\d.*?)\]", changelog, re.MULTILINE)
    found = {
        "CHANGELOG.md, the newest release": releases[0],
        "installed: run `make setup`": metadata.version("thruway"),
        "Chart.yaml, version": chart["version"],
        "Chart.yaml, appVersion": chart["appVersion"],
        "values.yaml, image.tag": values["image"]["tag"] or chart["appVersion"],
        "Dockerfile": re.findall(r"^ARG VERSION=(.+)$", image, re.MULTILINE)[0],
        **{f"docs/install.md, {tag}": tag for tag in re.findall(r"/thruway:([\d.]*\d)", install)},
    }
    assert found == dict.fromkeys(found, version)


HASH = "--hash=sha256:" + "0" * 64
PROJECT = {
    "build-system": {"requires": ["hatchling>=1.27"]},
    "project": {
        "name": "thruway",
        "dependencies": [],
        "optional-dependencies": {
            "extproc": ["grpcio>=1.80", "uvloop>=0.21; sys_platform != 'win32'"],
            "local": ["thruway[extproc]"],
        },
    },
    "dependency-groups": {"dev": ["types-PyYAML>=6"]},
}
WHOLE = (
    f"hatchling==1.27 {HASH}\n"
    f"grpcio==1.80.0 \\\n    {HASH} \\\n    {HASH}\n"
    f"types-pyyaml==6.0.12.2025 {HASH}\n"
    f"uvloop==0.21 ; sys_platform != 'win32' {HASH}\n"
)


@pytest.mark.parametrize(
    ("lock", "problem"),
    [
        (WHOLE, None),
        (WHOLE.replace("grpcio==1.80.0", "grpcio==1.79.0"), r"extra extproc asks for grpcio>=1.80"),
        (WHOLE.replace("types-pyyaml", "types-toml"), r"group dev asks for types-PyYAML.* nothing"),
        (WHOLE.replace("hatchling==1.27", "hatchling==1.26"), r"build-system asks for hatchling"),
        (WHOLE.replace("'win32'", "'darwin'"), r"asks for uvloop.* \(darwin, Python 3\.11\)"),
        (WHOLE + "h11==0.16\n", r"h11 0\.16 has no sha256 hash"),
        (WHOLE + f"h11>=0.16 {HASH}\n", r"not `name==version`: h11>=0\.16"),
        (WHOLE + "--index-url simple\n", r"names an address or an index"),
        (WHOLE + f"h11 @ https://example.com/h11.whl {HASH}\n", r"names an address or an index"),
    ],
)
def test_the_lock_check_finds(lock: str, problem: str | None) -> None:
    problems: Callable[..., Iterator[str]] = tool("lock")["problems"]
    found = list(problems(PROJECT, lock))
    if problem is None:
        assert found == []
    else:
        assert re.search(problem, found[0])


def tool(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / f"{name}.py"))
