"""A private Slurm on one host: several virtual nodes, one with fake GPUs, everything below one folder."""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun")
INSTALL = "apt-get install --no-install-recommends slurm-wlm munge"

# one job a node, so that what happens to a node happens to one job; they share the machine's real cores
CPU_NODES = tuple(f"cpu{number}" for number in range(1, 7))
GPU_NODE = "gpu1"
NODES = (*CPU_NODES, GPU_NODE)
N_GPUS = 2
MEMORY_MB = 32000

_SLURM_CONF = """\
ClusterName=latentree
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[slurmctld]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# a job that is requeued waits as long as its credential lives
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/{tracking}
TaskPlugin=task/none
# no cgroups: memory is looked at every second, and a job that holds too much is killed
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
SwitchType=switch/none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
MinJobAge=86400
KillWait=2
# a node that was set down stays down, one that fell silent comes back by itself
ReturnToService=1
SlurmctldTimeout=60
SlurmdTimeout={node_timeout}
AccountingStorageType=accounting_storage/none
DefMemPerCPU=500
{nodes}
PartitionName=cpu Nodes={cpu_nodes} Default=YES MaxTime=7-00:00:00 DefaultTime=60 State=UP
PartitionName=gpu Nodes={gpu_node} MaxTime=7-00:00:00 DefaultTime=60 State=UP
"""


def missing_programs() -> list[str]:
    """Programs of Slurm and munge that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]


def wait_until(true: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Ask again and again; a failed test says what never came."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.1)


def processes_of(folder: Path, also: str = "") -> list[int]:
    """Processes whose command line or environment names the folder (and the text ``also``)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            said = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(f"{folder}/") in said and also.encode() in said:
            found.append(int(entry.name))
    return found


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _confine(name: str) -> None:
    """Give a node of one CPU one core, as real clusters do; Snakemake counts those that it may use."""
    if name in CPU_NODES:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[CPU_NODES.index(name) % len(cores)]})


def _remove(folder: Path) -> None:
    """Kill all that runs for a folder, and remove it."""
    end = time.monotonic() + 30
    while (left := processes_of(folder)) and time.monotonic() < end:
        _kill(left)
        time.sleep(0.1)
    shutil.rmtree(folder)


@dataclass(frozen=True)
class SlurmJob:
    """What squeue tells of a job, finished ones included."""

    number: str
    state: str
    comment: str
    partition: str
    node: str
    memory: str


@dataclass
class VirtualSlurm:
    """Daemons of one cluster; a context manager that leaves neither a process nor a file.

    Parameters
    ----------
    folder
        A new folder with a short path (unix sockets lie in it), which :meth:`stop` removes with all that
        the tests put into it.
    node_timeout
        Seconds without a word from a node until the controller gives it up.
    """

    folder: Path
    node_timeout: int = 20
    daemons: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ports = _free_ports(["slurmctld", *NODES])
        for name in ("bin", "home", "tmp", "log", "state", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        # munge wants to see a socket's folder from any account
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        self._configure(ports)
        self.environment = self._user_environment()

    def __enter__(self) -> "VirtualSlurm":
        try:
            self._guard()
            self._daemon("munged", "--foreground", "--force", *self._munge_files())
            wait_until((self.folder / "munge.sock").exists, "munged's socket")
            self.start_controller()
            for node in NODES:
                self.start_node(node)
            wait_until(lambda: self.idle_nodes() == set(NODES), f"all nodes; see {self._last_words()}")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start_controller(self) -> None:
        self._daemon("slurmctld", "-D")
        wait_until(self._answers, "slurmctld")

    def stop_controller(self) -> None:
        """Killed outright, it would forget what was asked of it in the last seconds."""
        self._end("slurmctld", signal.SIGTERM)

    def start_node(self, node: str) -> None:
        self._daemon(node, "-D", "-N", node, program="slurmd")

    def kill_node_daemon(self, node: str) -> None:
        """Its jobs live on without it."""
        self._end(node, signal.SIGKILL)

    def cut_power(self, node: str) -> None:
        """Kill all that runs on a node, its jobs included."""
        self._end(node, signal.SIGKILL)
        # first what would report a job's death, then the jobs
        _kill(processes_of(self.folder, also=f"LATENTREE_VIRTUAL_NODE={node}\0"))
        _kill(processes_of(self.folder, also=f"SLURMD_NODENAME={node}\0"))

    def call(self, *command: str) -> str:
        """Run one of Slurm's programs."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self, workdir: Path) -> list[SlurmJob]:
        """All jobs that were ever submitted from a folder, the oldest first."""
        lines = self.call("squeue", "-h", "--states=all", "--format=%Z|%i|%T|%k|%P|%N|%m").splitlines()
        rows = [line.strip().split("|") for line in lines]
        jobs = [SlurmJob(*row[1:]) for row in rows if row[0] == str(workdir)]
        return sorted(jobs, key=lambda job: int(job.number))

    def idle_nodes(self) -> set[str]:
        return set(self.call("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())

    def resume_nodes(self) -> None:
        """Nodes that a test took away come back, with daemons of their own."""
        for node in NODES:
            if self.daemons[node].poll() is not None:
                self.start_node(node)
        wait_until(self._nodes_resumed, "all nodes to be idle again")

    def _nodes_resumed(self) -> bool:
        away = set(NODES) - self.idle_nodes()
        for node in away:
            # refused where the node has just come back by itself
            command = ["scontrol", "update", f"NodeName={node}", "State=RESUME"]
            subprocess.run(command, env=self.environment, capture_output=True, timeout=60)
        return not away

    def stop(self) -> None:
        """End all jobs and daemons and remove the folder; whatever does not end is killed."""
        if self._running("slurmctld") and self._answers():
            subprocess.run(
                ["scancel", "--user", self.environment["USER"]],
                env=self.environment,
                capture_output=True,
                timeout=30,
            )
        for name in reversed(list(self.daemons)):
            self._end(name, signal.SIGTERM)
        _remove(self.folder)

    def _configure(self, ports: Mapping[str, int]) -> None:
        root = os.geteuid() == 0
        lines = [
            f"NodeName={node} NodeHostname={_host()} NodeAddr=127.0.0.1 Port={ports[node]}"
            f" CPUs={N_GPUS if node == GPU_NODE else 1} RealMemory={MEMORY_MB} State=UNKNOWN"
            f"{f' Gres=gpu:{N_GPUS}' if node == GPU_NODE else ''}"
            for node in NODES
        ]
        text = _SLURM_CONF.format(
            host=_host(),
            ports=ports,
            user=_user(),
            folder=self.folder,
            tracking="linuxproc" if root else "pgid",
            node_timeout=self.node_timeout,
            nodes="\n".join(lines),
            cpu_nodes=",".join(CPU_NODES),
            gpu_node=GPU_NODE,
        )
        (self.folder / "slurm.conf").write_text(text)
        # slurmd wants character devices for its GPUs, and is content with links to one
        for gpu in range(N_GPUS):
            (self.folder / f"gpu{gpu}").symlink_to(os.devnull)
        gpus = f"NodeName={GPU_NODE} Name=gpu File={self.folder}/gpu[0-{N_GPUS - 1}]\n"
        (self.folder / "gres.conf").write_text(gpus)
        # Snakemake's job step drops every SLURM_ variable before it calls srun
        shim = self.folder / "bin" / "srun"
        real = shutil.which("srun", path=SEARCHED)
        shim.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {real} "$@"\n')
        shim.chmod(0o755)

    def _user_environment(self) -> dict[str, str]:
        """What a user of the cluster has: nothing is read from or written to the real home."""
        ours = ("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SNAKEMAKE_", "LATENTREE_", "XDG_", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        path = [f"{self.folder}/bin", str(Path(sys.executable).parent), SEARCHED]
        return kept | {
            "PATH": os.pathsep.join(path),
            "HOME": f"{self.folder}/home",
            "TMPDIR": f"{self.folder}/tmp",
            "USER": _user(),
            "SLURM_CONF": f"{self.folder}/slurm.conf",
        }

    def _munge_files(self) -> list[str]:
        files = {
            "socket": "munge.sock",
            "key-file": "munge.key",
            "pid-file": "munged.pid",
            "seed-file": "seed",
        }
        return [f"--{name}={self.folder / file}" for name, file in files.items()] + [
            f"--log-file={self.folder}/log/munged.log"
        ]

    def _guard(self) -> None:
        """A process that cleans up where this one is killed: then nobody holds its stdin any more."""
        command = [sys.executable, __file__, "guard", f"{self.folder}/"]
        self.daemons["guard"] = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def _daemon(self, name: str, *arguments: str, program: str = "") -> None:
        with open(self.folder / "log" / f"{name}.out", "ab") as log:
            self.daemons[name] = subprocess.Popen(
                [shutil.which(program or name, path=SEARCHED) or name, *arguments],
                cwd=self.folder,
                env=self.environment | {"LATENTREE_VIRTUAL_NODE": name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C on the tests is not for them: they are needed to end the jobs
                start_new_session=True,
                preexec_fn=partial(_confine, name),
            )

    def _running(self, name: str) -> bool:
        return name in self.daemons and self.daemons[name].poll() is None

    def _end(self, name: str, how: signal.Signals) -> None:
        daemon = self.daemons[name]
        daemon.send_signal(how)
        try:
            daemon.wait(timeout=15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _answers(self) -> bool:
        asked = subprocess.run(["scontrol", "ping"], env=self.environment, capture_output=True, timeout=60)
        return asked.returncode == 0

    def _last_words(self) -> str:
        logs = (self.folder / "log").glob("*.out")
        return "\n".join(f"{log.name}: {log.read_text()[-500:]}" for log in logs)


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _free_ports(names: list[str]) -> dict[str, int]:
    """A port for each name, below those that the system hands out by itself."""
    ports: dict[str, int] = {}
    while len(ports) < len(names):
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe:
            if port not in ports.values() and probe.connect_ex(("127.0.0.1", port)):
                ports[names[len(ports)]] = port
    return ports


def new_folder() -> Path:
    """A folder for one cluster; pytest's own are too deep for unix sockets."""
    return Path(tempfile.mkdtemp(prefix="slurm-")).resolve()


def main() -> None:
    """Say what is missing, before any test is skipped for it; or guard a cluster."""
    if sys.argv[1:2] == ["guard"]:
        sys.stdin.buffer.read()
        _remove(Path(sys.argv[2]))
    elif missing := missing_programs():
        sys.exit(f"make cluster-test needs a Slurm to run: no {', '.join(missing)} here; {INSTALL}")


if __name__ == "__main__":
    main()
