"""An empty Debian in a folder, whose first process is its own systemd. It has processes, a host name and a network of
its own, so that no port of this machine is in its way; only what it downloads comes over this machine's network.
"""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from tests.support.processes import watch

PROGRAMS = ("debootstrap", "unshare", "nsenter", "ip")
PACKAGES = "systemd-sysv,dbus,ca-certificates"
"""What an installer adds to the smallest Debian, as far as it matters here."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
OURS = "made-for-a-test"
"""Tells it from this machine, while its first process is still on the way there."""
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup")
MACHINE = f"""
while :; do
    echo $$ > "$1/cgroup.procs"
    unshare --fork --kill-child --net {" ".join(SPACES)} sh -c "$3" sh "$2"
    test $? = 129 || exit
done
"""
"""A reboot of a container ends its first process by SIGHUP (reboot(2)): then it starts again, as a machine does."""
BOOT = """
set -eu
root=$1
ip link set lo up
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
cd "$root"
pivot_root . mnt
umount -l /mnt
exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"""


def what_is_missing() -> str | None:
    """What this machine lacks for one; None where it can be tried."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0:
        return "root"
    if lacking:
        return f"the program {lacking[0]}"
    if not CERTIFICATES.exists():
        return str(CERTIFICATES)
    return None if _cgroups() else "a mounted cgroup2"


def _cgroups() -> Path | None:
    mounted = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next((Path(place) for _, place, kind, *_ in mounted if kind == "cgroup2"), None)


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


class Debian:
    def __init__(self, root: Path) -> None:
        self.root = root
        self._machine: subprocess.Popen[bytes] | None = None
        cgroups = _cgroups()
        assert cgroups is not None
        self._cgroup = cgroups / f"notifyctl-debian-{os.getpid()}"
        with watch.known():
            made = subprocess.run(
                ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root],
                capture_output=True, text=True, timeout=900, check=False,
            )  # fmt: skip
        assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-1000:]
        (root / "etc" / OURS).touch()
        (root / "etc" / "hostname").write_text("debian\n")
        (root / "etc" / "hosts").write_text("127.0.0.1 localhost debian\n")
        (root / "etc" / "apt" / "apt.conf.d" / "yes").write_text('APT::Get::Assume-Yes "true";\n')
        # Nobody needs this Debian after a power cut, and dpkg waits for the disk at every file.
        (root / "etc" / "dpkg" / "dpkg.cfg.d" / "unsafe-io").write_text("force-unsafe-io\n")
        shutil.copy(CERTIFICATES, root / "etc" / "ssl" / "this-machine.pem")

    def boot(self) -> None:
        self._cgroup.mkdir(exist_ok=True)
        with watch.known():
            self._machine = subprocess.Popen(
                ["sh", "-c", MACHINE, "sh", self._cgroup, self.root, BOOT],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self._until_up()

    def _until_up(self) -> None:
        self.until(
            f"test -e /etc/{OURS} && test -S /run/systemd/private && systemctl is-system-running --wait", within=60
        )

    def _pid(self) -> int:
        """Of its first process, here."""
        assert self._machine is not None
        return _child(_child(self._machine.pid))

    def try_(self, script: str, *, downloads: bool = False, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Root's shell in /root; with `downloads` on this machine's network."""
        spaces = [*SPACES, *([] if downloads else ["--net"])]
        kept = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
        variables = [*kept, "PIP_CERT=/etc/ssl/this-machine.pem", f"PATH={SEARCH}", "HOME=/root"]
        command = [
            "nsenter",
            f"--target={self._pid()}",
            *spaces,
            "env",
            "-i",
            *variables,
            "DEBIAN_FRONTEND=noninteractive",
        ]
        with watch.known():
            return subprocess.run(
                [*command, "bash", "-euxo", "pipefail", "-c", f"cd /root\n{script}"],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
            )  # fmt: skip

    def run(self, script: str, *, downloads: bool = False, seconds: float = 300) -> str:
        """What it printed on stdout; a script that fails fails the test."""
        ran = self.try_(script, downloads=downloads, seconds=seconds)
        assert ran.returncode == 0, f"{ran.stdout[-4000:]}\n{ran.stderr[-4000:]}"
        return ran.stdout

    def until(self, script: str, *, within: float = 60) -> str:
        deadline = monotonic() + within
        while True:
            try:
                ran = self.try_(script)
            except (OSError, IndexError):
                ran = None  # its first process is not there yet
            if ran is not None and ran.returncode == 0:
                return ran.stdout
            assert monotonic() < deadline, script if ran is None else f"{ran.stdout[-4000:]}\n{ran.stderr[-4000:]}"
            sleep(0.2)

    def reboot(self) -> None:
        before = self._pid()
        self.try_("systemctl reboot")  # which may lose its answer
        deadline = monotonic() + 120
        while Path(f"/proc/{before}").exists():
            assert monotonic() < deadline, "it does not go down"
            sleep(0.1)
        self._until_up()

    def close(self) -> None:
        if self._machine is not None:
            with suppress(IndexError, OSError):
                os.kill(self._pid(), signal.SIGKILL)  # all that is in it goes with it
            self._machine.wait(60)
        deadline = monotonic() + 10
        while (self._cgroup / "cgroup.procs").exists() and monotonic() < deadline:
            for folder, _, _ in os.walk(self._cgroup, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    sleep(0.1)  # somebody in it is not yet gone
