"""Memory and CPU of the processes that a bench started."""
import glob


def memory_mib(process):
    with open(f"/proc/{process.child.pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:")) / 1024


def cpu_seconds(process):
    """By name of thread."""
    seconds = {}
    for folder in glob.glob(f"/proc/{process.child.pid}/task/*"):
        try:
            with open(folder + "/comm", encoding="utf-8") as comm, open(folder + "/schedstat", encoding="utf-8") as stat:
                name = comm.read().strip()
                seconds[name] = seconds.get(name, 0) + int(stat.read().split()[0]) * 1e-9
        except OSError:
            continue  # a thread that has ended
    return seconds
