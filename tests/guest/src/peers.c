/* Rights and relations of processes: ids, capabilities, prctl; memory and descriptors of others; small calls. */
#include "guest.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/fsuid.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/utsname.h>

static int is_root(void) { return geteuid() == 0; }

CASE(ids) {
    uid_t r, e, s;
    gid_t gr, ge, gs, groups[65];
    CHECK(getresuid(&r, &e, &s) == 0 && r == getuid() && e == geteuid());
    CHECK(getresgid(&gr, &ge, &gs) == 0 && gr == getgid() && ge == getegid());
    CHECK_ERRNO(syscall(SYS_getresgid, (void *)8, &ge, &gs), EFAULT);
    CHECK(setresuid(-1, -1, -1) == 0 && setresgid(-1, -1, -1) == 0 && setreuid(-1, -1) == 0 && setregid(-1, -1) == 0);
    int n = getgroups(0, NULL);
    CHECK(n >= 0 && getgroups(65, groups) == n);
    CHECK_ERRNO(getgroups(-1, groups), EINVAL);
    CHECK_ERRNO(syscall(SYS_setuid, -1), EINVAL);
    CHECK_ERRNO(syscall(SYS_setgid, -1), EINVAL);
    if (!is_root()) {
        CHECK_ERRNO(setuid(12345), EPERM);
        CHECK_ERRNO(setgid(12345), EPERM);
        CHECK_ERRNO(setgroups(0, NULL), EPERM);
        return;
    }
    gid_t three[3] = {9, 7, 8};
    CHECK(setgroups(3, three) == 0 && getgroups(65, groups) == 3 && groups[1] == 8);
    CHECK_ERRNO(getgroups(2, groups), EINVAL);
    CHECK_ERRNO(syscall(SYS_setgroups, 70000, groups), EINVAL);
    CHECK_ERRNO(syscall(SYS_setgroups, 1, (void *)8), EFAULT);
    CHECK(setresgid(100, 101, 102) == 0 && getresgid(&gr, &ge, &gs) == 0 && gr == 100 && ge == 101 && gs == 102);
    CHECK(setregid(101, 100) == 0 && getresgid(&gr, &ge, &gs) == 0 && gr == 101 && ge == 100 && gs == 100);
    CHECK(setgid(55) == 0 && getresgid(&gr, &ge, &gs) == 0 && gr == 55 && ge == 55 && gs == 55);
    CHECK(setresuid(1000, 1001, 0) == 0 && getuid() == 1000 && geteuid() == 1001);
    CHECK_ERRNO(setresuid(5, -1, -1), EPERM);
    CHECK_ERRNO(setreuid(5, -1), EPERM);
    CHECK_ERRNO(setgroups(0, NULL), EPERM);
    CHECK(seteuid(0) == 0 && setreuid(1000, 1002) == 0);
    CHECK(getresuid(&r, &e, &s) == 0 && r == 1000 && e == 1002 && s == 1002);
    CHECK_ERRNO(setuid(0), EPERM);
    CHECK(setuid(1000) == 0 && geteuid() == 1000);
}

static int caps(struct __user_cap_data_struct *d, int set) {
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    return (int)syscall(set ? SYS_capset : SYS_capget, &h, d);
}

CASE(capabilities) {
    struct __user_cap_data_struct d[2], more[2];
    struct __user_cap_header_struct bad = {1, 0};
    CHECK(caps(d, 0) == 0);
    CHECK_ERRNO(syscall(SYS_capget, &bad, d), EINVAL);
    CHECK(bad.version == _LINUX_CAPABILITY_VERSION_3);
    bad.version = 1;
    CHECK(syscall(SYS_capget, &bad, NULL) == 0);
    bad = (struct __user_cap_header_struct){_LINUX_CAPABILITY_VERSION_3, 0x3fffffff};
    CHECK_ERRNO(syscall(SYS_capget, &bad, d), ESRCH);
    CHECK_ERRNO(syscall(SYS_capset, &bad, d), EPERM);
    CHECK_ERRNO(prctl(PR_CAPBSET_READ, 99, 0, 0, 0), EINVAL);
    CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0) == 0);
    CHECK_ERRNO(prctl(PR_CAP_AMBIENT, 9, CAP_CHOWN, 0, 0), EINVAL);
    memcpy(more, d, sizeof d);
    more[1].permitted |= 1u << 31;
    more[1].effective |= 1u << 31;
    caps(more, 1);
    CHECK(caps(more, 0) == 0 && (more[1].permitted & 1u << 31) == 0);
    if (!is_root() || !(d[0].effective & 1 << CAP_SETUID)) {
        return;
    }
    CHECK(prctl(PR_CAPBSET_READ, CAP_CHOWN, 0, 0, 0) == 1);
    char name[64];
    snprintf(name, sizeof name, "/tmp/occlum-caps-%d", getpid());
    close(open(name, O_CREAT | O_RDWR, 0000));
    CHECK(chown(name, 1, 1) == 0 && access(name, R_OK) == 0);
    /* Not in force, but permitted: it may come back. */
    memcpy(more, d, sizeof d);
    more[0].effective &= ~(1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH | 1u << CAP_FOWNER);
    CHECK(caps(more, 1) == 0);
    CHECK_ERRNO(chown(name, 2, 2), EPERM);
    CHECK_ERRNO(chmod(name, 0644), EPERM);
    CHECK_ERRNO(open(name, O_RDONLY), EACCES);
    CHECK(caps(d, 1) == 0 && chown(name, 0, 0) == 0);
    unlink(name);
    /* Given up for good. */
    more[0].permitted &= ~(1u << CAP_CHOWN);
    CHECK(caps(more, 1) == 0);
    CHECK_ERRNO(caps(d, 1), EPERM);
    CHECK(prctl(PR_CAPBSET_DROP, CAP_CHOWN, 0, 0, 0) == 0 && prctl(PR_CAPBSET_READ, CAP_CHOWN, 0, 0, 0) == 0);
    /* Another user has none, unless asked to keep what is permitted. */
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(setresuid(1000, 1000, 1000) == 0 && caps(d, 0) == 0 && d[0].permitted == 0 && d[0].effective == 0);
        CHECK_ERRNO(prctl(PR_CAPBSET_DROP, CAP_KILL, 0, 0, 0), EPERM);
        _exit(guest_failures);
    }
    report("dropped", child);
    CHECK(prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0) == 0 && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
    CHECK_ERRNO(prctl(PR_SET_KEEPCAPS, 2, 0, 0, 0), EINVAL);
    CHECK(setresuid(1000, 1000, 1000) == 0 && caps(d, 0) == 0 && d[0].permitted != 0 && d[0].effective == 0);
    d[0].inheritable = d[0].effective = d[0].permitted = 1u << CAP_SETUID;
    d[1].inheritable = d[1].effective = d[1].permitted = 0;
    CHECK(caps(d, 1) == 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SETUID, 0, 0) == 0);
    CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SETUID, 0, 0) == 1);
    CHECK_ERRNO(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0), EPERM);
    CHECK(setuid(0) == 0);
}

CASE(process_options) {
    int value = 0;
    CHECK(prctl(PR_SET_NAME, "a name that is too long", 0, 0, 0) == 0);
    char name[17] = "";
    CHECK(prctl(PR_GET_NAME, name, 0, 0, 0) == 0);
    puts(name);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
    CHECK_ERRNO(prctl(PR_SET_DUMPABLE, 2, 0, 0, 0), EINVAL);
    CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0) == 0 && prctl(PR_GET_PDEATHSIG, &value, 0, 0, 0) == 0 && value == SIGUSR1);
    CHECK_ERRNO(prctl(PR_SET_PDEATHSIG, 65, 0, 0, 0), EINVAL);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 && prctl(PR_GET_CHILD_SUBREAPER, &value, 0, 0, 0) == 0 && value == 1);
    CHECK(prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == 50000 && prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0) == 0);
    CHECK(prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == 1000 && prctl(PR_SET_TIMERSLACK, 0, 0, 0, 0) == 0);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
    CHECK_ERRNO(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
    CHECK_ERRNO(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0), EINVAL);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    pid_t child = fork_clean();
    if (child == 0)
        _exit(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && prctl(PR_GET_PDEATHSIG, &value, 0, 0, 0) == 0 && value == 0);
    report("inherited", child);
    CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 && prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
    CHECK_ERRNO(prctl(123456, 0, 0, 0, 0), EINVAL);
    int old = personality(0xffffffff);
    CHECK((old & ~ADDR_NO_RANDOMIZE) == 0 && personality(ADDR_NO_RANDOMIZE) == old && personality(0xffffffff) == ADDR_NO_RANDOMIZE);
}

static char shared_text[64] = "what the parent has";

CASE(memory_of_others) {
    static char here[10000], there[10000];
    memset(there, 't', sizeof there);
    int p[2];
    char c;
    CHECK(pipe(p) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        strcpy(shared_text, "what the child has");
        write(p[1], "x", 1);
        for (int i = 0; i < 3000 && shared_text[0] == 'w'; i++)
            sleep_ms(1);
        _exit(strcmp(shared_text, "written") == 0 ? 0 : 1);
    }
    read(p[0], &c, 1);
    char text[64] = "";
    struct iovec local[2] = {{text, 10}, {text + 10, 54}}, remote = {shared_text, 19};
    CHECK(process_vm_readv(child, local, 2, &remote, 1, 0) == 19);
    puts(text);
    struct iovec l = {here, sizeof here}, r[2] = {{there, 5000}, {there + 5000, 5000}};
    CHECK(process_vm_readv(child, &l, 1, r, 2, 0) == 10000 && here[9999] == 't');
    r[1].iov_base = (void *)8;
    CHECK(process_vm_readv(child, &l, 1, r, 2, 0) == 5000);
    r[0].iov_base = (void *)8;
    CHECK_ERRNO(process_vm_readv(child, &l, 1, r, 2, 0), EFAULT);
    CHECK_ERRNO(process_vm_readv(child, &l, 1, &remote, 1, 1), EINVAL);
    CHECK_ERRNO(process_vm_readv(child, &l, 2000, &remote, 1, 0), EINVAL);
    CHECK_ERRNO(process_vm_readv(0x3fffffff, &l, 1, &remote, 1, 0), ESRCH);
    CHECK_ERRNO(process_vm_readv(child, (void *)8, 1, &remote, 1, 0), EFAULT);
    CHECK(process_vm_readv(child, &l, 1, &remote, 0, 0) == 0);
    l = (struct iovec){"written", 8};
    struct iovec code = {(void *)(uintptr_t)&puts, 8};
    CHECK_ERRNO(process_vm_writev(child, &l, 1, &code, 1, 0), EFAULT);
    CHECK(process_vm_writev(child, &l, 1, &remote, 1, 0) == 8);
    report("child", child);
    CHECK(strcmp(shared_text, "what the parent has") == 0);
    l = (struct iovec){text, 5};
    CHECK(process_vm_writev(getpid(), &l, 1, &remote, 1, 0) == 5);
}

enum { OTHER = 1234 };

static void drop_ids(void) { CHECK(setgroups(0, NULL) == 0 && setgid(OTHER) == 0 && setuid(OTHER) == 0); }
static void drop_effective(void) { CHECK(setegid(OTHER) == 0 && seteuid(OTHER) == 0); }
static void be_seen(void) { CHECK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0); }
/* What a process does before another one, with all ids OTHER, looks into it. */
static void as_it_is(void) {}
static void dropped(void) { drop_ids(); }
static void dropped_and_seen(void) { drop_ids(), be_seen(); }
static void effective(void) { drop_effective(); }
static void effective_and_seen(void) { drop_effective(), be_seen(); }
static void for_files(void) { setfsgid(OTHER), setfsuid(OTHER), be_seen(); }
static void group_stays(void) {
    CHECK(setgroups(0, NULL) == 0 && setresgid(OTHER, OTHER, 0) == 0 && setuid(OTHER) == 0);
    be_seen();
}
static void with_rights(void) {
    CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
    drop_ids(), be_seen();
}
static void hidden(void) {
    drop_ids(), be_seen();
    CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
}
static char unreadable[] = "/tmp/guest-peers-XXXXXX";
static void another_program(void) { drop_ids(), execl("/bin/cat", "cat", NULL); }
static void unreadable_program(void) { drop_ids(), execl(unreadable, "cat", NULL); }
static const struct {
    const char *name;
    void (*become)(void);
} targets[] = {{"as it is", as_it_is},       {"dropped", dropped},         {"dropped, seen", dropped_and_seen},
               {"effective", effective},     {"effective, seen", effective_and_seen},
               {"for files, seen", for_files}, {"a group stays", group_stays}, {"with rights", with_rights},
               {"hidden", hidden},           {"another program", another_program}, {"unreadable program", unreadable_program}};

static void told(const char *what, long result) { printf(" %s:%s", what, result < 0 ? strerrorname_of(errno) : "ok"); }
static const char *in_proc(pid_t pid, const char *name) {
    static char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return path;
}
static void look_at(pid_t pid) {
    static const char *const files[] = {"environ", "maps", "smaps", "auxv", "fd", "fd/0", "fdinfo", "fdinfo/0", "status", "cwd", "root"};
    char text[4096];
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++)
        told(files[i], open(in_proc(pid, files[i]), O_RDONLY));
    told("exe", readlink(in_proc(pid, "exe"), text, sizeof text));
    told("link", readlink(in_proc(pid, "fd/0"), text, sizeof text));
    struct iovec l = {text, 4}, r = {shared_text, 4};
    long n = process_vm_readv(pid, &l, 1, &r, 1, 0);
    told("memory", n < 0 && errno == EFAULT ? 0 : n);
    int pidfd = syscall(SYS_pidfd_open, pid, 0);
    told("getfd", syscall(SYS_pidfd_getfd, pidfd, 0, 0));
    told("advise", syscall(SYS_process_madvise, pidfd, &l, 0, 20 /* MADV_COLD */, 0));
    struct rlimit limit;
    told("limit", prlimit(pid, RLIMIT_NOFILE, NULL, &limit));
    void *head;
    size_t len;
    told("list", syscall(SYS_get_robust_list, pid, &head, &len));
    struct stat d, f;
    CHECK(stat(in_proc(pid, ""), &d) == 0 && stat(in_proc(pid, "environ"), &f) == 0);
    printf(" of %d %d, %d %d", d.st_uid, d.st_gid, f.st_uid, f.st_gid);
    FILE *stat = fopen(in_proc(pid, "stat"), "r");
    unsigned long code = 0;
    CHECK(stat && fgets(text, sizeof text, stat));
    sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %*u %*u %*d %*u %lu", &code);
    printf(" code %s\n", code > 1 ? "shown" : "hidden");
}

/* Who has dropped rights is not looked into by others with the ids that it has now, unless it says so. */
CASE(looking_into_others) {
    if (!is_root())
        return;
    char copy[100];
    int fd = mkstemp(unreadable);
    snprintf(copy, sizeof copy, "cat /bin/cat > %s; chmod 711 %s", unreadable, unreadable);
    CHECK(fd >= 0 && close(fd) == 0 && system(copy) == 0 && chdir("/") == 0);
    for (unsigned i = 0; i < sizeof targets / sizeof *targets; i++) {
        int stay[2], ready[2];
        char c;
        CHECK(pipe2(stay, O_CLOEXEC) == 0 && pipe2(ready, O_CLOEXEC) == 0);
        pid_t target = fork_clean();
        if (target == 0) {
            dup2(stay[0], 0);
            close(stay[1]);
            targets[i].become();
            close(ready[1]);
            read(0, &c, 1);
            _exit(guest_failures);
        }
        close(ready[1]);
        CHECK(read(ready[0], &c, 1) == 0);
        printf("%s:", targets[i].name);
        fflush(stdout);
        pid_t looker = fork_clean();
        if (looker == 0) {
            drop_ids();
            look_at(target);
            fflush(stdout);
            _exit(guest_failures);
        }
        int status;
        CHECK(waitpid(looker, &status, 0) == looker && status == 0);
        close(stay[1]);
        CHECK(waitpid(target, &status, 0) == target && status == 0);
        close(stay[0]), close(ready[0]);
    }
    unlink(unreadable);
}

/* A process that dropped its rights, itself. */
CASE(dropping_rights) {
    if (!is_root())
        return;
    int value = -1;
    CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0) == 0 && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1);
    CHECK(setuid(0) == 0 && setgid(0) == 0 && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1);
    /* Whoever shares the memory sees it. */
    pid_t child = vfork();
    if (child == 0) {
        syscall(SYS_setfsgid, OTHER);
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    be_seen();
    CHECK(prctl(PR_GET_PDEATHSIG, &value, 0, 0, 0) == 0 && value == SIGUSR1);
    drop_ids();
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 && prctl(PR_GET_PDEATHSIG, &value, 0, 0, 0) == 0 && value == 0);
    child = fork_clean();
    if (child == 0)
        _exit(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    report("inherited", child);
    CHECK_ERRNO(open("/proc/self/environ", O_RDONLY), EACCES);
    CHECK_ERRNO(open("/proc/self/comm", O_WRONLY), EACCES);
    CHECK(open("/proc/self/maps", O_RDONLY) >= 0 && open("/proc/self/cwd", O_RDONLY) >= 0);
    int p[2];
    char path[32];
    CHECK(pipe(p) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", p[0]);
    CHECK(readlink(path, path, sizeof path) > 0 && open("/proc/self/fd", O_RDONLY) >= 0 && open("/proc/self/fdinfo/0", O_RDONLY) >= 0);
    CHECK(access("/proc/self/fd", R_OK | X_OK) == 0);
}

static long kcmp(pid_t a, pid_t b, int type, unsigned long i, unsigned long k) {
    return syscall(SYS_kcmp, a, b, type, i, k);
}

CASE(kcmp_kinds) {
    pid_t me = getpid();
    if (kcmp(me, me, KCMP_VM, 0, 0) < 0 && errno == ENOSYS) {
        puts("child: exit 0");
        return;
    }
    int a = open("/dev/null", O_RDONLY), b = dup(a), c = open("/dev/null", O_RDONLY);
    CHECK(kcmp(me, me, KCMP_FILE, a, b) == 0);
    CHECK(kcmp(me, me, KCMP_FILE, a, c) == 1 || kcmp(me, me, KCMP_FILE, a, c) == 2);
    CHECK(kcmp(me, me, KCMP_FILE, a, c) + kcmp(me, me, KCMP_FILE, c, a) == 3);
    CHECK_ERRNO(kcmp(me, me, KCMP_FILE, a, 999), EBADF);
    for (int t = KCMP_VM; t <= KCMP_SYSVSEM; t++)
        CHECK(kcmp(me, me, t, 0, 0) == 0);
    CHECK_ERRNO(kcmp(me, me, 77, 0, 0), EINVAL);
    CHECK_ERRNO(kcmp(me, 0x3fffffff, KCMP_VM, 0, 0), ESRCH);
    pid_t child = fork_clean();
    if (child == 0) {
        pid_t parent = getppid();
        CHECK(kcmp(parent, getpid(), KCMP_FILE, a, b) == 0);
        CHECK(kcmp(parent, getpid(), KCMP_VM, 0, 0) > 0 && kcmp(parent, getpid(), KCMP_FILES, 0, 0) > 0);
        CHECK(kcmp(parent, getpid(), KCMP_FS, 0, 0) > 0 && kcmp(parent, getpid(), KCMP_SIGHAND, 0, 0) > 0);
        _exit(guest_failures);
    }
    report("child", child);
}

static siginfo_t seen;
static void on_signal(int s, siginfo_t *i, void *c) {
    (void)s, (void)c;
    seen = *i;
}

CASE(signals_with_values) {
    struct sigaction a = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &a, NULL);
    siginfo_t i = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    i.si_value.sival_int = 42;
    i.si_pid = getpid();
    CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, &i) == 0 && seen.si_code == SI_QUEUE && seen.si_value.sival_int == 42);
    i.si_value.sival_int = 43;
    CHECK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &i) == 0 && seen.si_value.sival_int == 43);
    CHECK_ERRNO(syscall(SYS_rt_tgsigqueueinfo, getpid(), 0, SIGUSR1, &i), EINVAL);
    CHECK_ERRNO(syscall(SYS_rt_tgsigqueueinfo, getpid(), 0x3fffffff, SIGUSR1, &i), ESRCH);
    CHECK_ERRNO(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), 65, &i), EINVAL);
    CHECK_ERRNO(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, (void *)8), EFAULT);
    CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), 0, &i) == 0);
    i.si_code = SI_USER;
    pid_t parent = getpid(), child = fork_clean();
    if (child == 0) {
        CHECK_ERRNO(syscall(SYS_rt_tgsigqueueinfo, parent, parent, SIGUSR1, &i), EPERM);
        CHECK_ERRNO(syscall(SYS_rt_sigqueueinfo, parent, SIGUSR1, &i), EPERM);
        _exit(guest_failures);
    }
    report("forged", child);
    CHECK(syscall(SYS_tkill, gettid(), SIGUSR1) == 0 && seen.si_code == SI_TKILL && seen.si_pid == getpid());
    CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1) == 0 && seen.si_code == SI_TKILL);
    CHECK_ERRNO(syscall(SYS_tkill, 0, SIGUSR1), EINVAL);
    CHECK_ERRNO(syscall(SYS_tkill, gettid(), 65), EINVAL);
    CHECK_ERRNO(syscall(SYS_tgkill, -1, gettid(), SIGUSR1), EINVAL);
    CHECK_ERRNO(syscall(SYS_tgkill, 0x3fffffff, gettid(), SIGUSR1), ESRCH);
    CHECK(syscall(SYS_tgkill, getpid(), gettid(), 0) == 0);
}

CASE(small_calls) {
    unsigned char a[300], b[300];
    CHECK(getrandom(a, 300, 0) == 300 && getrandom(b, 300, GRND_NONBLOCK) == 300 && memcmp(a, b, 300) != 0);
    CHECK(getrandom(a, 16, GRND_RANDOM) == 16 && getrandom(a, 16, 4 /* GRND_INSECURE */) == 16 && getrandom(a, 0, 0) == 0);
    CHECK_ERRNO(getrandom(a, 16, 8), EINVAL);
    CHECK_ERRNO(getrandom(a, 16, GRND_RANDOM | 4), EINVAL);
    CHECK_ERRNO(getrandom((void *)8, 16, 0), EFAULT);
    struct sysinfo s;
    CHECK(sysinfo(&s) == 0 && s.uptime >= 0 && s.totalram > 0 && s.freeram <= s.totalram && s.procs > 0 && s.mem_unit > 0);
    CHECK_ERRNO(syscall(SYS_sysinfo, (void *)8), EFAULT);
    /* What /proc says, but for what others do meanwhile. */
    char line[100];
    long kb, near = 64 << 10;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        CHECK(sscanf(line, "SwapTotal: %ld", &kb) != 1 || kb == (long)(s.totalswap * s.mem_unit / 1024));
        CHECK(sscanf(line, "Buffers: %ld", &kb) != 1 || labs(kb - (long)(s.bufferram * s.mem_unit / 1024)) < near);
        CHECK(sscanf(line, "Shmem: %ld", &kb) != 1 || labs(kb - (long)(s.sharedram * s.mem_unit / 1024)) < near);
    }
    fclose(f);
    struct utsname u;
    CHECK(uname(&u) == 0 && strcmp(u.sysname, "Linux") == 0 && strcmp(u.machine, "x86_64") == 0 && u.nodename[0] && u.release[0]);
    CHECK_ERRNO(syscall(SYS_uname, (void *)8), EFAULT);
    static int tid;
    CHECK(syscall(SYS_set_tid_address, &tid) == gettid());
    int *at = NULL;
    if (prctl(PR_GET_TID_ADDRESS, &at, 0, 0, 0) == 0)
        CHECK(at == &tid);
}

CASE(barriers) {
    long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    if (commands < 0)
        return;
    CHECK(commands & MEMBARRIER_CMD_GLOBAL);
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0);
    CHECK_ERRNO(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), EPERM);
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0);
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
    CHECK_ERRNO(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0), EPERM);
    CHECK_ERRNO(syscall(SYS_membarrier, 1 << 20, 0, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 5, 0), EINVAL);
}

CASE(limits_of_others) {
    struct rlimit old, new = {100, 200};
    pid_t child = fork_clean();
    if (child == 0) {
        for (int i = 0; i < 3000; i++) {
            getrlimit(RLIMIT_NOFILE, &old);
            if (old.rlim_cur == 100)
                _exit(open("/dev/null", O_RDONLY) >= 0 && fcntl(0, F_DUPFD, 100) < 0 && errno == EINVAL ? 0 : 1);
            sleep_ms(1);
        }
        _exit(2);
    }
    CHECK(prlimit(child, RLIMIT_NOFILE, &new, &old) == 0 && old.rlim_max >= old.rlim_cur);
    CHECK(prlimit(child, RLIMIT_NOFILE, NULL, &old) == 0 && old.rlim_cur == 100 && old.rlim_max == 200);
    report("limited", child);
    new = (struct rlimit){300, 200};
    CHECK_ERRNO(prlimit(0, RLIMIT_NOFILE, &new, NULL), EINVAL);
    CHECK_ERRNO(prlimit(0, 77, NULL, &old), EINVAL);
    CHECK_ERRNO(prlimit(0x3fffffff, RLIMIT_NOFILE, NULL, &old), ESRCH);
    CHECK_ERRNO(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, (void *)8, NULL), EFAULT);
    CHECK_ERRNO(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, (void *)8), EFAULT);
}

CASE(memory_and_fork) {
    char *m = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(m, 'x', 5 * 4096);
    CHECK(madvise(m + 4096, 4096, MADV_WIPEONFORK) == 0 && madvise(m + 3 * 4096, 4096, MADV_DONTFORK) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        unsigned char v;
        CHECK(m[0] == 'x' && m[4096] == 0 && m[8191] == 0 && m[8192] == 'x' && m[4 * 4096] == 'x');
        CHECK_ERRNO(mincore(m + 3 * 4096, 4096, &v), ENOMEM);
        _exit(guest_failures);
    }
    report("child", child);
    CHECK(m[4096] == 'x' && m[3 * 4096] == 'x');
    CHECK(madvise(m, 5 * 4096, MADV_KEEPONFORK) == 0 && madvise(m, 5 * 4096, MADV_DOFORK) == 0);
    child = fork_clean();
    if (child == 0)
        _exit(m[4096] == 'x' && m[3 * 4096] == 'x' ? 0 : 1);
    report("kept", child);
    char *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK_ERRNO(madvise(s, 4096, MADV_WIPEONFORK), EINVAL);
    CHECK(madvise(m, 4096, MADV_POPULATE_WRITE) == 0 && madvise(m, 4096, MADV_POPULATE_READ) == 0);
    mprotect(m, 4096, PROT_READ);
    CHECK_ERRNO(madvise(m, 4096, MADV_POPULATE_WRITE), EINVAL);
    munmap(m, 4096);
    CHECK_ERRNO(madvise(m, 8192, MADV_POPULATE_READ), ENOMEM);
    CHECK_ERRNO(madvise(m, 8192, MADV_WILLNEED), ENOMEM);
    CHECK_ERRNO(madvise(m + 4096, 4096, 12345), EINVAL);
    CHECK_ERRNO(madvise(m + 1, 4096, MADV_NORMAL), EINVAL);
}
