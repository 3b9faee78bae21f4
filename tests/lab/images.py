"""Container images made from local files: no registry is asked."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.lab.build import KUBERNETES, Built, digest
from tests.lab.shell import run

REPOSITORY: Final = "lab.local"
ETCD_TAG: Final = "3.6.15-0"
COREDNS_TAG: Final = "v1.11.3"
PAUSE: Final = f"{REPOSITORY}/pause:3.10.1"
FLANNEL: Final = "ghcr.io/flannel-io/flannel:v0.28.10"
FLANNEL_PLUGIN: Final = "ghcr.io/flannel-io/flannel-cni-plugin:v0.9.1"
TRAEFIK: Final = "docker.io/library/traefik:v3.6.12"
APP: Final = "docker.io/wwwm/spring-be:1"
BUSYBOX: Final = "docker.io/library/busybox:1.35"

_DIRECTORIES: Final = ("tmp", "etc", "proc", "sys", "dev", "run", "var/run", "root", "home")
_ETC: Final = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "/etc/group": "root:x:0:\nnobody:x:65534:\n",
    "/etc/nsswitch.conf": "hosts: files dns\n",
}
# Debian's static busybox prefers its own applets over PATH, unlike Alpine's: these come from
# programs of their own
_NOT_APPLETS: Final = ("busybox", "sh", "ip", "ash")
_NETWORK_TOOLS: Final = (
    "xtables-nft-multi",
    "xtables-legacy-multi",
    "nft",
    "ip",
    "bridge",
    "conntrack",
    "ipset",
    "ethtool",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Files of an image: from this machine, as links, and as texts."""

    files: Mapping[str, Path] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    directories: tuple[str, ...] = ()

    def key(self) -> str:
        """A hash that changes when one of the files does."""
        stamps = [
            f"{name} {path} {path.stat().st_size} {path.stat().st_mtime_ns}"
            for name, path in sorted(self.files.items())
        ]
        return digest([*stamps, repr(self.links), repr(self.texts), repr(self.directories)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image and the kind of node that has it."""

    name: str
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...] = ()
    control_plane_only: bool = False

    def key(self) -> str:
        """A hash that changes when the image does."""
        code = Path(__file__).read_bytes()
        return digest([code, self.name, *self.entrypoint, *(layer.key() for layer in self.layers)])


class _Tree:
    """Writes a file tree into a tar, parents first, always the same bytes."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._made: set[str] = set()

    def directory(self, name: str) -> None:
        name = name.strip("/")
        if not name or name in self._made:
            return
        self.directory(name.rpartition("/")[0])
        self._made.add(name)
        info = tarfile.TarInfo(name)
        info.type = tarfile.DIRTYPE
        info.mode = 0o1777 if name == "tmp" else 0o755
        self._tar.addfile(info)

    def file(self, name: str, data: bytes, mode: int) -> None:
        self.directory(name.rpartition("/")[0])
        info = tarfile.TarInfo(name.lstrip("/"))
        info.size = len(data)
        info.mode = mode
        self._tar.addfile(info, io.BytesIO(data))

    def link(self, name: str, target: str) -> None:
        self.directory(name.rpartition("/")[0])
        info = tarfile.TarInfo(name.lstrip("/"))
        info.type = tarfile.SYMTYPE
        info.linkname = target
        self._tar.addfile(info)


def _pack(layer: Layer) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tree = _Tree(tar)
        for name in layer.directories:
            tree.directory(name)
        for name, path in layer.files.items():
            tree.file(name, path.read_bytes(), 0o755)
        for name, text in layer.texts.items():
            tree.file(name, text.encode(), 0o644)
        for name, target in layer.links.items():
            tree.link(name, target)
    return buffer.getvalue()


def _libraries(program: Path) -> Iterable[Path]:
    said = run("ldd", str(program), check=False).stdout
    return (Path(word) for word in said.split() if word.startswith("/"))


def _tool(name: str) -> Path:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        msg = f"{name} is in none of the system's directories"
        raise FileNotFoundError(msg)
    return Path(found).resolve()


def _shell_links() -> dict[str, str]:
    applets = run("/bin/busybox", "--list").stdout.split()
    links = {f"/bin/{name}": "/bin/busybox" for name in applets if name not in _NOT_APPLETS}
    return {**links, "/bin/sh": "/usr/sbin/dash"}


def root_layer(*, with_shell: bool) -> Layer:
    """A root with network tools; with a shell it is Alpine's kind, without the distroless one."""
    files: dict[str, Path] = {"/bin/busybox": Path("/bin/busybox")} if with_shell else {}
    for name in (*_NETWORK_TOOLS, *(("dash",) if with_shell else ())):
        program = _tool(name)
        files[f"/usr/sbin/{program.name}"] = program
        files |= {str(library): library.resolve() for library in _libraries(program)}
    extensions = Path("/usr/lib").glob("*-linux-gnu/xtables/*.so")
    files |= {str(extension): extension for extension in sorted(extensions)}
    links = _shell_links() if with_shell else {}
    for family in ("iptables", "ip6tables"):
        for action in ("", "-save", "-restore"):
            links[f"/usr/sbin/{family}{action}"] = "xtables-nft-multi"
            links[f"/usr/sbin/{family}-nft{action}"] = "xtables-nft-multi"
            links[f"/usr/sbin/{family}-legacy{action}"] = "xtables-legacy-multi"
    return Layer(files=files, links=links, texts=_ETC, directories=_DIRECTORIES)


def _bare(destination: str, program: Path) -> Layer:
    """A root that holds one static program."""
    return Layer(files={destination: program}, texts=_ETC, directories=("tmp", "etc", "run"))


def _control_plane(built: Built, root: Layer) -> tuple[Image, ...]:
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    own = tuple(
        Image(
            name=f"{REPOSITORY}/{name}:{KUBERNETES}",
            layers=(_bare(f"/usr/local/bin/{name}", built[name]),),
            control_plane_only=True,
        )
        for name in names
    )
    etcd = Image(
        name=f"{REPOSITORY}/etcd:{ETCD_TAG}",
        layers=(root, Layer(files={"/usr/local/bin/etcd": built["etcd"]})),
        control_plane_only=True,
    )
    return (*own, etcd)


def _network(built: Built, root: Layer) -> tuple[Image, ...]:
    proxy = Layer(files={"/usr/local/bin/kube-proxy": built["kube-proxy"]})
    flanneld = Layer(
        files={
            "/opt/bin/flanneld": built["flanneld"],
            "/opt/bin/install-conf": built["install-conf"],
        }
    )
    plugin = Layer(files={"/flannel": built["flannel"]})
    metallb = tuple(
        Image(
            name=f"quay.io/metallb/{name}:v0.14.9",
            layers=(_bare(f"/{name}", built[name]),),
            entrypoint=(f"/{name}",),
        )
        for name in ("controller", "speaker")
    )
    return (
        Image(
            name=f"{REPOSITORY}/kube-proxy:{KUBERNETES}",
            layers=(root_layer(with_shell=False), proxy),
        ),
        Image(
            name=f"{REPOSITORY}/coredns:{COREDNS_TAG}",
            layers=(_bare("/coredns", built["coredns"]),),
            entrypoint=("/coredns",),
        ),
        Image(name=PAUSE, layers=(_bare("/pause", built["pause"]),), entrypoint=("/pause",)),
        Image(name=FLANNEL, layers=(root, flanneld), entrypoint=("/opt/bin/flanneld",)),
        Image(name=FLANNEL_PLUGIN, layers=(root, plugin)),
        *metallb,
    )


def _workload(built: Built, root: Layer) -> tuple[Image, ...]:
    traefik = Layer(files={"/usr/local/bin/traefik": built["traefik"]})
    return (
        Image(name=TRAEFIK, layers=(root, traefik), entrypoint=("traefik",)),
        Image(name=APP, layers=(root, Layer(files={"/app": built["app"]})), entrypoint=("/app",)),
        Image(name=BUSYBOX, layers=(root,), entrypoint=("sh",)),
    )


def catalogue(built: Built) -> tuple[Image, ...]:
    """Every image of the lab."""
    root = root_layer(with_shell=True)
    return (*_control_plane(built, root), *_network(built, root), *_workload(built, root))


def _descriptor(data: bytes, kind: str) -> dict[str, object]:
    digested = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digested, "size": len(data)}


def _config(image: Image, layers: list[bytes]) -> bytes:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    diffs = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {"Env": [f"PATH={path}"], "Entrypoint": list(image.entrypoint), "User": "0"}
    return json.dumps(
        {
            "architecture": _architecture(),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": diffs},
        }
    ).encode()


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def _write(image: Image, path: Path) -> None:
    # layers stay uncompressed: three nodes unpack them at once while everything else starts
    layers = [_pack(layer) for layer in image.layers]
    config = _config(image, layers)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor(config, "config.v1+json"),
            "layers": [_descriptor(layer, "layer.v1.tar") for layer in layers],
        }
    ).encode()
    entry = {
        **_descriptor(manifest, "manifest.v1+json"),
        "annotations": {"io.containerd.image.name": image.name},
        "platform": {"architecture": _architecture(), "os": "linux"},
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    with tarfile.open(path, "w") as tar:
        tree = _Tree(tar)
        tree.file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
        tree.file("index.json", index, 0o644)
        for blob in {manifest, config, *layers}:
            tree.file(f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob, 0o644)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An image as a file that containerd can import."""

    image: Image
    path: Path


def ensure(cache: Path, built: Built, tell: Callable[[str], None]) -> tuple[Archive, ...]:
    """Write the images that are not in the cache yet.

    Args:
        cache: The cache directory.
        built: The programs to put into them.
        tell: Told of each image that has to be written.

    Returns:
        One archive for each image of the catalogue.
    """
    directory = cache / "images"
    directory.mkdir(parents=True, exist_ok=True)
    archives = []
    for image in catalogue(built):
        stem = image.name.replace("/", "_").replace(":", "_")
        path = directory / f"{stem}-{image.key()}.tar"
        if not path.exists():
            tell(f"writing image {image.name}")
            for old in directory.glob(f"{stem}-*.tar"):
                old.unlink()
            part = path.with_suffix(f".part-{os.getpid()}")
            _write(image, part)
            part.rename(path)
        archives.append(Archive(image=image, path=path))
    return tuple(archives)
