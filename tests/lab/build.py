"""Go modules built into the cache, each under the hash of what it is built from."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.lab.places import SOURCES
from tests.lab.shell import run

KUBERNETES: Final = "v1.34.4"
BUILD_SECONDS: Final = 3600
_VERSION: Final = "k8s.io/component-base/version"
_KUBERNETES_FLAGS: Final = (
    f"-X {_VERSION}.gitVersion={KUBERNETES} "
    f"-X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor={KUBERNETES.split('.')[1]}"
)
_COMMANDS: Final = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubeadm",
    "kubectl",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A main package and the name its binary is to have."""

    package: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file that upstream ships inside its module."""

    module: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is built together from one directory of sources."""

    name: str
    directory: str
    programs: tuple[Program, ...]
    ldflags: str = ""
    tags: str = ""
    cgo: bool = False
    assets: tuple[Asset, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of the build."""
        tags = (f"-tags={self.tags}",) if self.tags else ()
        linker = f"-s -w {self.ldflags}"
        return ("-trimpath", "-buildvcs=false", "-ldflags", linker, *tags)


TARGETS: Final = (
    Target(name="app", directory="app", programs=(Program(package=".", name="app"),)),
    Target(
        name="k8s",
        directory="k8s",
        programs=tuple(
            Program(package=f"k8s.io/kubernetes/cmd/{name}", name=name) for name in _COMMANDS
        ),
        ldflags=_KUBERNETES_FLAGS,
    ),
    Target(
        name="etcd",
        directory="etcd",
        programs=(Program(package="go.etcd.io/etcd/server/v3", name="etcd"),),
    ),
    Target(
        name="coredns",
        directory="coredns",
        programs=(Program(package="github.com/coredns/coredns", name="coredns"),),
    ),
    Target(
        name="metallb",
        directory="metallb",
        programs=(
            Program(package="go.universe.tf/metallb/controller", name="controller"),
            Program(package="go.universe.tf/metallb/speaker", name="speaker"),
        ),
        assets=(
            Asset(module="go.universe.tf/metallb", path="config/manifests/metallb-native.yaml"),
        ),
    ),
    Target(
        name="traefik",
        directory="traefik",
        programs=(Program(package="github.com/traefik/traefik/v3/cmd/traefik", name="traefik"),),
    ),
    # flanneld needs cgo for its udp backend
    Target(
        name="flannel",
        directory="flannel",
        programs=(Program(package="github.com/flannel-io/flannel", name="flanneld"),),
        ldflags="-extldflags -static",
        tags="netgo,osusergo",
        cgo=True,
        assets=(
            Asset(module="github.com/flannel-io/flannel", path="Documentation/kube-flannel.yml"),
        ),
    ),
    Target(
        name="flannel-install",
        directory="flannel",
        programs=(
            Program(package="github.com/flannel-io/flannel/cmd/install_conf", name="install-conf"),
        ),
    ),
    # later versions of these plugins no longer carry the one called flannel
    Target(
        name="cni",
        directory="cni",
        programs=(
            Program(
                package="github.com/containernetworking/plugins/plugins/meta/flannel",
                name="flannel",
            ),
        ),
    ),
)


def digest(parts: Iterable[str | bytes]) -> str:
    """A short hash over some parts, their borders included."""
    total = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        total.update(hashlib.sha256(raw).digest())
    return total.hexdigest()[:16]


def source_key(target: Target, version: str) -> str:
    """The hash of everything a target is built from."""
    directory = SOURCES / target.directory
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    named = [
        part for path in files for part in (str(path.relative_to(directory)), path.read_bytes())
    ]
    programs = [f"{program.package}={program.name}" for program in target.programs]
    assets = [f"{asset.module}/{asset.path}" for asset in target.assets]
    return digest([version, str(target.cgo), *target.flags, *programs, *assets, *named])


def _build_go(target: Target, into: Path) -> None:
    directory = SOURCES / target.directory
    environment = {**os.environ, "CGO_ENABLED": "1" if target.cgo else "0"}
    packages = [program.package for program in target.programs]
    go = ("go", "build", *target.flags, "-o", f"{into}/", *packages)
    run(*go, env=environment, cwd=directory, timeout=BUILD_SECONDS)
    for program in target.programs:
        built = into / program.package.removesuffix("/v3").rsplit("/", maxsplit=1)[-1]
        if program.package != "." and built.name != program.name:
            built.rename(into / program.name)
    for asset in target.assets:
        listed = run("go", "list", "-m", "-f", "{{.Dir}}", asset.module, cwd=directory)
        copy = into / Path(asset.path).name
        copy.write_bytes((Path(listed.stdout.strip()) / asset.path).read_bytes())


def _build_pause(into: Path) -> None:
    source = SOURCES / "pause.c"
    run("gcc", "-static", "-O2", "-s", "-o", str(into / "pause"), str(source))


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Where each program and upstream manifest is."""

    files: dict[str, Path]

    def __getitem__(self, name: str) -> Path:
        """The path of a program or manifest; its directory's name is its hash."""
        return self.files[name]


def _once(directory: Path, make: Callable[[Path], None]) -> Path:
    """Fill a directory in one piece, or leave no trace of it."""
    if not directory.exists():
        part = directory.with_name(f"{directory.name}.part-{os.getpid()}")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        part.rename(directory)
    return directory


def ensure(cache: Path, tell: Callable[[str], None]) -> Built:
    """Build what has changed since it was last built.

    Args:
        cache: The cache directory.
        tell: Told of each target that has to be built.

    Returns:
        The paths of all programs and manifests.
    """
    version = run("go", "version", cwd=SOURCES / "app").stdout.strip()
    pause_key = digest([(SOURCES / "pause.c").read_bytes()])
    directories = [_once(cache / "bin" / f"pause-{pause_key}", _build_pause)]
    for target in TARGETS:
        directory = cache / "bin" / f"{target.name}-{source_key(target, version)}"
        if not directory.exists():
            tell(f"building {target.name}")
        directories.append(_once(directory, partial(_build_go, target)))
    return Built(files={path.name: path for each in directories for path in each.iterdir()})
