"""Files that change under way: what is good is served, what is broken is told, nothing is lost."""

import os
from pathlib import Path

import pytest

from thruway_operator.resources.secret import SecretValue
from thruway_operator.sources.files.merging import Reading
from thruway_operator.sources.files.watch import FileSource, SourceError
from thruway_operator.translate import translate

CANARY = "sk-canary-4Yq"


def route(name: str, path: str = "") -> str:
    return (
        "apiVersion: thruway.dev/v1alpha1\nkind: PassthroughRoute\n"
        f"metadata: {{name: {name}}}\nspec:\n  path: {path or '/' + name}\n  provider: openai\n"
    )


def secret(name: str, value: str) -> str:
    return f"kind: Secret\nmetadata: {{name: {name}}}\nstringData: {{k: {value}}}\n"


def paths(reading: Reading) -> list[str]:
    return [item.spec.path for item in reading.resources.routes]


def told(reading: Reading) -> list[str]:
    return [str(problem) for problem in reading.problems]


def write(file: Path, text: str) -> None:
    """Replace a file as editors do, so that its number changes whatever the clock says."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    new.replace(file)


def test_a_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "b.yaml").write_text(route("b"))
    (tmp_path / "routes" / "a.yml").write_text(route("a"))
    (tmp_path / "routes" / "c.json").write_text(
        '{"apiVersion": "thruway.dev/v1alpha1", "kind": "PassthroughRoute",'
        ' "metadata": {"name": "c"}, "spec": {"path": "/c", "provider": "openai"}}'
    )
    (tmp_path / "one.txt").write_text(route("one"))
    reading = FileSource([tmp_path / "one.txt", tmp_path / "routes"], None).read()
    assert (paths(reading), told(reading)) == (["/one", "/a", "/b", "/c"], [])
    # The order of files is the age of routes.
    created = [item.created for item in reading.resources.routes]
    assert created == sorted(created)
    assert reading.routes["default/b"].document.file == str(tmp_path / "routes" / "b.yaml")


def test_what_is_no_manifest_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route("a"))
    for name in (".hidden.yaml", "a.yaml~", "README.md", "a.yaml.swp"):
        (tmp_path / name).write_text("[")
    (tmp_path / "below.yaml").mkdir()
    (tmp_path / "below.yaml" / "x.yaml").write_text("[")
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "nowhere")
    reading = FileSource([tmp_path], None).read()
    assert (paths(reading), told(reading)) == (["/a"], [])


def test_a_file_given_twice_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(route("a"))
    reading = FileSource([file, tmp_path, file], None).read()
    assert (paths(reading), told(reading)) == (["/a"], [])


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.yaml does not exist: check the path after -f"):
        FileSource([tmp_path / "none.yaml"], None)


def test_a_path_that_is_neither_file_nor_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="is neither a file nor a folder"):
        FileSource([tmp_path / "pipe"], None)


def test_an_empty_folder_is_fine(tmp_path: Path) -> None:
    reading = FileSource([tmp_path], None).read()
    assert (paths(reading), told(reading), reading.warnings) == ([], [], [])


def test_changes_additions_and_deletions(tmp_path: Path) -> None:
    source = FileSource([tmp_path], None)
    (tmp_path / "a.yaml").write_text(route("a"))
    before = source.state()
    assert paths(source.read()) == ["/a"]
    assert source.state() == before

    write(tmp_path / "b.yaml", route("b"))
    assert source.state() != before
    assert paths(source.read()) == ["/a", "/b"]

    before = source.state()
    write(tmp_path / "a.yaml", route("a", "/a2"))
    assert source.state() != before
    assert paths(source.read()) == ["/a2", "/b"]

    (tmp_path / "a.yaml").unlink()
    assert paths(source.read()) == ["/b"]
    write(tmp_path / "a.yaml", route("a"))
    assert paths(source.read()) == ["/a", "/b"]


def test_a_change_in_place_is_seen(tmp_path: Path) -> None:
    """Same file, same size, only its time differs."""
    file = tmp_path / "a.yaml"
    file.write_text(route("a", "/a1"))
    os.utime(file, ns=(1, 1))
    source = FileSource([file], None)
    assert paths(source.read()) == ["/a1"]
    file.write_text(route("a", "/a2"))
    os.utime(file, ns=(2, 2))
    assert paths(source.read()) == ["/a2"]


def test_a_mounted_folder_is_switched_by_its_link(tmp_path: Path) -> None:
    """A ConfigMap's files are links through `..data`, which Kubernetes replaces at once."""
    for version, path in (("1", "/a1"), ("2", "/a2")):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "a.yaml").write_text(route("a", path))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    source = FileSource([tmp_path], None)
    assert paths(source.read()) == ["/a1"]
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert paths(source.read()) == ["/a2"]


def test_a_file_that_vanishes_takes_its_routes_along(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(route("a"))
    source = FileSource([file], None)
    assert paths(source.read()) == ["/a"]
    file.unlink()
    assert paths(source.read()) == []
    file.write_text(route("a"))
    assert paths(source.read()) == ["/a"]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("a: [\n", ":2: is not valid YAML: "),
        (route("a").replace("/a", "a"), ":5: a: spec.path: must be one or more whole segments"),
        ("kind: Secret\n", ":1: metadata with a name is required"),
        ("a: 1\na: 2\n", ":2: a appears twice in one mapping: keep one"),
    ],
)
def test_a_broken_file_keeps_the_last_good_state(tmp_path: Path, broken: str, said: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(route("a") + "---\n" + secret("s", "good"))
    (tmp_path / "b.yaml").write_text(route("b"))
    source = FileSource([tmp_path], None)
    source.read()
    write(file, broken)
    for _ in range(2):  # also when it is looked at again and nothing has changed
        reading = source.read()
        assert paths(reading) == ["/a", "/b"]
        assert reading.resources.secrets["default", "s"]["k"].reveal() == "good"
        (problem,) = told(reading)
        assert problem.startswith(f"{file}{said}")

    write(tmp_path / "b.yaml", route("b", "/b2"))
    assert paths(source.read()) == ["/a", "/b2"]

    write(file, route("a", "/a2"))
    reading = source.read()
    assert (paths(reading), told(reading)) == (["/a2", "/b2"], [])
    assert reading.resources.secrets == {}


def test_a_file_that_was_never_good_yields_nothing_but_its_problem(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("[")
    (tmp_path / "b.yaml").write_text(route("b"))
    source = FileSource([tmp_path], None)
    reading = source.read()
    assert (paths(reading), len(told(reading))) == (["/b"], 1)
    (tmp_path / "a.yaml").unlink()
    assert told(source.read()) == []


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: \xff\xfe")
    (problem,) = told(FileSource([tmp_path], None).read())
    assert problem == f"{tmp_path / 'a.yaml'}: is not UTF-8 text"


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "a.yaml").open("wb") as file:
        file.truncate(4 * 1024 * 1024 + 1)
    (problem,) = told(FileSource([tmp_path], None).read())
    assert problem == f"{tmp_path / 'a.yaml'}: is larger than 4 MiB"


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(route("a"))
    source = FileSource([file], None)
    source.read()

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "read_text", refuse)
    write(file, route("a", "/a2"))
    reading = source.read()
    assert paths(reading) == ["/a"]
    assert told(reading) == [f"{file}: cannot be read: Permission denied"]


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text(route("a"))
    source = FileSource([tmp_path], None)
    source.read()

    def refuse(_: object) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        assert paths(source.read()) == ["/a"]
    assert paths(source.read()) == ["/a"]


def test_the_same_route_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route("x", "/first"))
    (tmp_path / "b.yaml").write_text("# two\n" + route("x", "/second") + "---\n" + route("y"))
    reading = FileSource([tmp_path], None).read()
    assert paths(reading) == ["/first", "/y"]
    assert told(reading) == [
        f"{tmp_path / 'b.yaml'}:4: PassthroughRoute default/x is also in {tmp_path / 'a.yaml'}: "
        "keep one"
    ]


def test_the_same_secret_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(secret("s", "first"))
    (tmp_path / "b.yaml").write_text(secret("s", CANARY))
    reading = FileSource([tmp_path], None).read()
    assert reading.resources.secrets["default", "s"]["k"].reveal() == "first"
    assert told(reading) == [
        f"{tmp_path / 'b.yaml'}: Secret s is also in another file: keep one"
    ]  # fmt: skip
    (tmp_path / "a.yaml").unlink()


def test_warnings_do_not_make_a_file_broken(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Service\nmetadata: {name: x}\n---\n" + route("a"))
    reading = FileSource([tmp_path], None).read()
    assert (paths(reading), told(reading)) == (["/a"], [])
    (warning,) = map(str, reading.warnings)
    assert warning.startswith(f"{tmp_path / 'a.yaml'}:1: Service is ignored")


def test_the_environment_is_passed_on(tmp_path: Path) -> None:
    environment = {"OPENAI_API_KEY": SecretValue("k")}
    assert FileSource([tmp_path], environment).read().resources.environment == environment
    assert FileSource([tmp_path], None).read().resources.environment is None


def test_nothing_that_is_read_shows_a_secret(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route("a") + "---\n" + secret("s", CANARY))
    reading = FileSource([tmp_path], {"K": SecretValue(CANARY)}).read()
    shown = repr(reading) + str(reading) + repr(reading.routes)
    assert "/a" in shown
    assert CANARY not in shown


def served(source: FileSource) -> tuple[list[str], list[str]]:
    """Return the paths that are served, and what is told."""
    reading = source.read(translate)
    accepted = translate(reading.resources).config.routes
    assert len(accepted) == len(reading.resources.routes)
    return sorted(paths(reading)), told(reading)


def test_what_only_translation_refuses_keeps_the_last_good_state(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(route("a") + "---\n" + route("b"))
    source = FileSource([tmp_path], None)
    assert served(source) == (["/a", "/b"], [])
    wrong = route("a", "/a2") + "  upstream: {url: 'localhost:4110'}\n---\n" + route("b", "/b2")
    write(file, wrong)
    for _ in range(2):  # also when it is looked at again and nothing has changed
        now, (problem,) = served(source)
        assert now == ["/a", "/b"]
        assert problem == (
            f"{file}:4: route default/a: spec.upstream.url must begin with http:// or https://"
        )
    write(file, wrong.replace("localhost", "http://localhost"))
    assert served(source) == (["/a2", "/b2"], [])


def test_a_new_file_that_translation_refuses_is_not_served_by_half(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route("a"))
    source = FileSource([tmp_path], None)
    served(source)
    write(tmp_path / "z.yaml", route("z", "/a/deeper") + "---\n" + route("y"))
    now, (problem,) = served(source)
    assert now == ["/a"]
    assert "path collides with /a of the older route default/a" in problem
    # It is tried again when the other gives way, though it has not changed since.
    write(tmp_path / "a.yaml", route("a", "/b"))
    assert served(source) == (["/a/deeper", "/b", "/y"], [])


def test_an_edit_takes_no_path_from_a_route_of_a_later_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route("a"))
    (tmp_path / "b.yaml").write_text(route("b"))
    source = FileSource([tmp_path], None)
    served(source)
    write(tmp_path / "a.yaml", route("a", "/b"))
    now, (problem,) = served(source)
    assert now == ["/a", "/b"]
    assert problem == (
        f"{tmp_path / 'a.yaml'}:4: route default/a: path collides with /b of route default/b, "
        "which is served: use another path, or other hostnames"
    )
    # Both change places, one after the other.
    write(tmp_path / "b.yaml", route("b", "/a"))
    assert served(source) == (["/a", "/b"], [])


@pytest.mark.parametrize("edited", ["a", "b"])
def test_an_edit_takes_no_name_from_a_route_of_another_file(tmp_path: Path, edited: str) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(route(name))
    source = FileSource([tmp_path], None)
    served(source)
    write(tmp_path / f"{edited}.yaml", route({"a": "b", "b": "a"}[edited], "/new"))
    now, (problem,) = served(source)
    assert now == ["/a", "/b"]
    assert problem.startswith(f"{tmp_path / edited}.yaml:3: PassthroughRoute default/")


def test_an_edit_takes_no_name_from_a_secret_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(secret("a", "first"))
    (tmp_path / "b.yaml").write_text(secret("b", "second"))
    source = FileSource([tmp_path], None)
    served(source)
    write(tmp_path / "a.yaml", secret("b", "third"))
    reading = source.read(translate)
    found = {name: data["k"].reveal() for (_, name), data in reading.resources.secrets.items()}
    assert found == {"a": "first", "b": "second"}
    assert told(reading) == [f"{tmp_path / 'a.yaml'}: Secret b is also in another file: keep one"]
