"""Numbers of the system calls that a process with foreign code is refused, by processor.

Entry points: `ARCHITECTURES` (by `platform.machine()`), `SystemCalls`. From the kernel's tables
(arch/x86/entry/syscalls and include/uapi/asm-generic/unistd.h). A solution needs none of these calls.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SystemCalls:
    """One processor's numbers. audit: AUDIT_ARCH_*; wide: first number of another calling convention, or None; refused:
    by what they would reach; signals: kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo; makes: creat, mknod and
    mknodat, each with the place of its mode; opens: open and openat, each with the place of its flags, which its mode
    follows."""

    audit: int
    wide: int | None
    refused: dict[str, tuple[int, ...]]
    signals: tuple[int, ...]
    prlimit: int
    socket: int
    prctl: int
    ioctl: int
    fcntl: int
    clone: int
    seccomp: int
    makes: tuple[tuple[int, int], ...]
    opens: tuple[tuple[int, int], ...]


# The same everywhere: pidfd_open, pidfd_send_signal, pidfd_getfd, process_madvise; fchmodat2, setxattrat,
# removexattrat, file_setattr; io_uring_*; open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr,
# quotactl_fd, open_tree_attr.
_PROCESSES, _METADATA, _RINGS = (434, 424, 438, 440), (452, 463, 466, 469), (425, 426, 427)
_MOUNTS = (428, 429, 430, 431, 432, 433, 442, 443, 467)
CLONE3, OPENAT2 = 435, 437  # their arguments lie in memory, which no filter sees

ARCHITECTURES = {
    "x86_64": SystemCalls(
        audit=0xC000003E,
        wide=0x40000000,
        refused={
            # ptrace, process_vm_readv and _writev, kcmp, migrate_pages, move_pages
            "processes": (101, 310, 311, 312, 256, 279, *_PROCESSES),
            # setpriority, sched_setparam, sched_setscheduler, sched_setaffinity, ioprio_set, sched_setattr
            "priority": (141, 142, 144, 203, 251, 314),
            # chmod, chown, utime, xattr in all forms
            "metadata": (90, 91, 92, 93, 94, 132, 188, 189, 190, 197, 198, 199, 235, 260, 261, 268, 280, *_METADATA),
            "network": (42, 49, 50),  # connect, bind, listen
            "shared memory": (29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 220, 240, 241),  # of System V, message queues
            # sync, syncfs; inotify_init in both forms
            "everybody's disk and files": (162, 306, 253, 294),
            # unshare, setns, open_by_handle_at, bpf, perf_event_open, userfaultfd, fanotify_init
            "ways around": (272, 308, 304, 321, 298, 323, 300, *_RINGS),
            "the host": (
                *(155, 161, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173, 175, 176, 179, 103, 153, 159, 227),
                *(305, 246, 248, 249, 250, 313, 320, *_MOUNTS),
            ),
        },
        signals=(62, 200, 234, 129, 297),
        prlimit=302,
        socket=41,
        prctl=157,
        ioctl=16,
        fcntl=72,
        clone=56,
        seccomp=317,
        makes=((85, 1), (133, 1), (259, 2)),
        opens=((2, 1), (257, 2)),
    ),
    "aarch64": SystemCalls(
        audit=0xC00000B7,
        wide=None,
        refused={
            "processes": (117, 270, 271, 272, 238, 239, *_PROCESSES),
            "priority": (140, 118, 119, 122, 30, 274),
            "metadata": (52, 53, 54, 55, 5, 6, 7, 14, 15, 16, 88, *_METADATA),
            "network": (203, 200, 201),
            "shared memory": (194, 196, 195, 190, 193, 191, 186, 189, 188, 187, 192, 180, 181),
            "everybody's disk and files": (81, 267, 26),
            "ways around": (97, 268, 265, 280, 241, 282, 262, *_RINGS),
            # pivot_root, chroot, acct, settimeofday, mount, umount, swapon, swapoff, reboot, sethostname,
            # setdomainname, init_module, delete_module, quotactl, syslog, vhangup, adjtimex, clock_settime,
            # clock_adjtime, kexec_load, add_key, request_key, keyctl, finit_module, kexec_file_load
            "the host": (
                *(41, 51, 89, 170, 40, 39, 224, 225, 142, 161, 162, 105, 106, 60, 116, 58, 171, 112),
                *(266, 104, 217, 218, 219, 273, 294, *_MOUNTS),
            ),
        },
        signals=(129, 130, 131, 138, 240),
        prlimit=261,
        socket=198,
        prctl=167,
        ioctl=29,
        fcntl=25,
        clone=220,
        seccomp=277,
        makes=((33, 2),),
        opens=((56, 2),),
    ),
}
