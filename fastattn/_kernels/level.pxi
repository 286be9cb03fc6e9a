# Which instruction-set level runs, and how many threads.

cdef const fa_level *level = NULL
cdef str level_reason = ""
cdef str threads_reason = ""


cdef _choose_level():
    global level, level_reason
    cdef int i, best = 0
    names = [fa_level_at(i).name.decode() for i in range(fa_levels())]
    for i in range(fa_levels()):
        if fa_level_supported(i):
            best = i
    refused = [names[i] for i in range(fa_levels()) if fa_level_refused(i)]
    level_reason = "highest level that this build has and this processor supports"
    if refused:
        level_reason += f"; the operating system refuses to save the registers of {', '.join(refused)}"
    wanted = os.environ.get("FASTATTN_ISA", "")
    if wanted:
        if wanted not in names:
            raise ImportError(f"FASTATTN_ISA: expected one of the levels of this build ({', '.join(names)}), got "
                              f"{wanted!r}.\nHint: unset FASTATTN_ISA to use {names[best]!r}.")
        if fa_level_supported(names.index(wanted)):
            best = names.index(wanted)
            level_reason = "FASTATTN_ISA"
        elif wanted in refused:
            raise ImportError("FASTATTN_ISA: the operating system refuses to save the registers of the level "
                              f"{wanted!r}.\nHint: unset FASTATTN_ISA to use {names[best]!r}; if a stack for "
                              "signals (sigaltstack) has no room for them, import fastattn before it is set.")
        else:
            raise ImportError(f"FASTATTN_ISA: this processor does not support the level {wanted!r}.\n"
                              f"Hint: unset FASTATTN_ISA to use {names[best]!r}.")
    level = fa_level_at(best)


def _cgroup_cpus():
    """CPUs that the control group's quota amounts to (v2, then v1), or None without a quota."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        try:
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as file:
                quota = file.read().strip()
            with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
                period = file.read().strip()
        except OSError:
            return None
    try:
        cpus = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return max(1, round(cpus)) if cpus > 0 else None


cdef _choose_threads():
    global n_threads, threads_reason
    for name in ("FASTATTN_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text.isdigit() and int(text) > 0:
            n_threads = min(int(text), 256)
            threads_reason = name
            return
        if text and name == "FASTATTN_NUM_THREADS":
            raise ImportError(f"{name}: expected a number of threads from 1 up, got {text!r}.\n"
                              "Hint: unset it, or set it to 1.")
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads_reason = "processors that this process may use"
    quota = _cgroup_cpus()
    if quota is not None and quota < cpus:
        cpus = quota
        threads_reason = "control group quota"
    n_threads = min(cpus, 256)


_choose_level()
_choose_threads()
if os.environ.get("FASTATTN_TEST_FAIL_ALLOC", "").isdigit():
    fa_fail_workspace(int(os.environ["FASTATTN_TEST_FAIL_ALLOC"]))


def get_num_threads():
    """The most threads that one call uses."""
    return n_threads


def set_num_threads(int n):
    """Set the most threads that one call uses (1 to 256)."""
    global n_threads, threads_reason
    n_threads = max(1, min(n, 256))
    threads_reason = "set_num_threads"


def use_team(uintptr_t address):
    """Compute on the threads of an OpenMP library whose GOMP_parallel is at this address; 0: on our own."""
    fa_use_team(<fa_team><void *>address)


def build_info():
    """Levels built and supported, the level and the threads in use, with reasons."""
    names = [fa_level_at(i).name.decode() for i in range(fa_levels())]
    return {
        "level": level.name.decode(),
        "level_reason": level_reason,
        "levels_built": names,
        "levels_cpu": [names[i] for i in range(fa_levels()) if fa_level_supported(i)],
        "threads": n_threads,
        "threads_reason": threads_reason,
    }
