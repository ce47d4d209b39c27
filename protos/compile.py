"""Compile protos/ into ext_authz/_protos: messages, the gRPC service, and type stubs for both."""

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
ROOT = PROTOS.parent
PACKAGE = Path("ext_authz/_protos")
INIT = '"""Generated from protos/ by `make protos`; never edited."""\n'

Files = dict[Path, bytes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, name what is stale")
    if not parser.parse_args().check:
        write(compiled())
        return 0
    differing = stale()
    for name in differing:
        print(f"{name}: stale or missing; run `make protos`", file=sys.stderr)
    return 1 if differing else 0


def stale() -> list[Path]:
    """Name the files that are not as protos/ describes: changed, missing or left over."""
    fresh, present = compiled(), contents(ROOT)
    return sorted(
        name for name in fresh.keys() | present.keys() if fresh.get(name) != present.get(name)
    )


def write(fresh: Files) -> None:
    for leftover in contents(ROOT).keys() - fresh.keys():
        (ROOT / leftover).unlink()
    (ROOT / PACKAGE).mkdir(parents=True, exist_ok=True)
    for name, content in fresh.items():
        (ROOT / name).write_bytes(content)


def compiled() -> Files:
    """Compile aside, so that a mistake in a .proto costs nothing."""
    protos = sorted(PROTOS.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        protoc(protos, scratch, "python", "mypy")
        # Asked for a file without a service, the plugin writes a module without a content.
        protoc(filter(has_service, protos), scratch, "grpc_python", "mypy_grpc")
        Path(scratch, PACKAGE, "__init__.py").write_text(INIT)
        return contents(Path(scratch))


def contents(root: Path) -> Files:
    """Each file of the package below `root`, by its path from there."""
    sources = (root / PACKAGE).glob("*.py*")
    return {source.relative_to(root): source.read_bytes() for source in sources}


def protoc(protos: Iterable[Path], root: str, *outputs: str) -> None:
    """Run the protoc of grpcio-tools with the plugins of mypy-protobuf."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}"]
    for stubs in ("mypy", "mypy_grpc"):
        command += [f"--plugin=protoc-gen-{stubs}={plugin(stubs)}", f"--{stubs}_opt=quiet"]
    command += [f"--{output}_out={root}" for output in outputs]
    subprocess.run([*command, *map(str, protos)], check=True)


def plugin(name: str) -> Path:
    """Beside this interpreter, so that a venv need not be on PATH."""
    return Path(sysconfig.get_path("scripts"), f"protoc-gen-{name}")


def has_service(proto: Path) -> bool:
    return "\nservice " in proto.read_text()


if __name__ == "__main__":
    sys.exit(main())
