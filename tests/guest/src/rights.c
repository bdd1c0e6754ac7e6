/* Capabilities: capset's rules, what ids and exec do to the sets, and what each allows. As another user than root there
 * is nothing to give away: the cases then only look. */
#include "guest.h"
#include <arpa/inet.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>

struct sets {
    uint64_t effective, permitted, inheritable;
};

static struct sets get(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2] = {0};
    CHECK(syscall(SYS_capget, &header, d) == 0);
    return (struct sets){d[0].effective | (uint64_t)d[1].effective << 32,
                         d[0].permitted | (uint64_t)d[1].permitted << 32,
                         d[0].inheritable | (uint64_t)d[1].inheritable << 32};
}

static long set(struct sets s) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2] = {{s.effective, s.permitted, s.inheritable},
                                          {s.effective >> 32, s.permitted >> 32, s.inheritable >> 32}};
    return syscall(SYS_capset, &header, d);
}

static uint64_t bit(int cap) {
    return 1ull << cap;
}

CASE(headers) {
    struct __user_cap_header_struct header = {0x12345678, 0};
    struct __user_cap_data_struct d[2] = {0};
    CHECK(syscall(SYS_capget, &header, NULL) == 0 && header.version == _LINUX_CAPABILITY_VERSION_3);
    header.version = 1;
    CHECK_ERRNO(syscall(SYS_capget, &header, d), EINVAL);
    header.version = 1;
    CHECK_ERRNO(syscall(SYS_capset, &header, d), EINVAL);
    header.pid = getpid() + 100000000;
    CHECK_ERRNO(syscall(SYS_capget, &header, d), ESRCH);
    CHECK_ERRNO(syscall(SYS_capset, &header, d), EPERM);
    header.pid = -1;
    CHECK_ERRNO(syscall(SYS_capget, &header, d), EINVAL);
    CHECK_ERRNO(syscall(SYS_capget, NULL, d), EFAULT);
}

CASE(nothing_comes_back) {
    struct sets s = get();
    CHECK(set(s) == 0);
    s.effective &= ~bit(CAP_CHOWN);
    CHECK(set(s) == 0 && get().effective == s.effective);
    s.permitted &= ~bit(CAP_CHOWN);
    CHECK(set(s) == 0 && get().permitted == s.permitted);
    struct sets more = s;
    more.permitted |= bit(CAP_CHOWN);
    CHECK_ERRNO(set(more), EPERM);
    more = s;
    more.effective |= bit(CAP_CHOWN);
    CHECK_ERRNO(set(more), EPERM);
    CHECK(get().permitted == s.permitted && get().effective == s.effective);
}

CASE(each_right_by_itself) {
    if (geteuid() != 0)
        return;
    int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    struct sets s = get();
    s.effective = bit(CAP_SETUID);
    CHECK(set(s) == 0);
    CHECK_ERRNO(fchown(fd, 12, 12), EPERM);
    CHECK_ERRNO(setgid(12), EPERM);
    CHECK_ERRNO(chroot("/"), EPERM);
    CHECK_ERRNO(prctl(PR_CAPBSET_DROP, CAP_CHOWN), EPERM);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7)};
    int s4 = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_ERRNO(bind(s4, (void *)&at, sizeof at), EACCES);
    s.effective |= bit(CAP_CHOWN) | bit(CAP_SETGID);
    CHECK(set(s) == 0 && fchown(fd, 12, 12) == 0 && setgid(12) == 0 && setuid(12) == 0);
    CHECK(get().effective == 0 && get().permitted == 0);
    CHECK_ERRNO(setuid(0), EPERM);
}

CASE(ids_take_them) {
    if (geteuid() != 0)
        return;
    struct sets all = get();
    CHECK(seteuid(99) == 0 && get().effective == 0 && get().permitted == all.permitted);
    CHECK(seteuid(0) == 0 && get().effective == all.permitted);
    CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0 && prctl(PR_GET_KEEPCAPS) == 1);
    CHECK(setresuid(99, 99, 99) == 0 && get().effective == 0 && get().permitted == all.permitted);
    struct sets s = {bit(CAP_SETUID), bit(CAP_SETUID), 0};
    CHECK(set(s) == 0 && setresuid(0, 0, 0) == 0);
    CHECK(get().effective == s.permitted && get().permitted == s.permitted);
}

/* What a program that this one executes has. */
static void show_after_exec(const char *what) {
    pid_t child = fork_clean();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", "while read k v; do case $k in Cap[IPEA]*) echo $k $v;; esac; done < /proc/self/status",
              NULL);
        _exit(127);
    }
    report(what, child);
}

CASE(exec_and_the_bounding_set) {
    if (geteuid() != 0)
        return;
    CHECK_ERRNO(prctl(PR_CAPBSET_READ, 63), EINVAL);
    CHECK_ERRNO(prctl(PR_CAPBSET_DROP, 63), EINVAL);
    for (int cap = 2; cap <= CAP_LAST_CAP; cap++)
        CHECK(prctl(PR_CAPBSET_DROP, cap) == 0 && prctl(PR_CAPBSET_READ, cap) == 0);
    CHECK(prctl(PR_CAPBSET_READ, 0) == 1);
    show_after_exec("root");
    CHECK_ERRNO(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0), EPERM);
    struct sets s = get();
    s.inheritable = bit(CAP_CHOWN);
    CHECK(set(s) == 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == 0);
    CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0) == 1);
    CHECK_ERRNO(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 1, 0, 0), EINVAL);
    CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0 && setresuid(99, 99, 99) == 0);
    CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0) == 0);
    show_after_exec("user");
    CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == 0);
    show_after_exec("user with an ambient one");
}

/* Natively these are the machine's own names: they are only set to what they are. */
CASE(names_of_the_machine) {
    struct utsname u;
    CHECK(uname(&u) == 0);
    struct sets s = get();
    if (s.effective & bit(CAP_SYS_ADMIN)) {
        CHECK_ERRNO(sethostname(u.nodename, 65), EINVAL);
        CHECK_ERRNO(sethostname(u.nodename, -1), EINVAL);
        CHECK_ERRNO(syscall(SYS_sethostname, NULL, 3), EFAULT);
        CHECK_ERRNO(setdomainname(u.nodename, 65), EINVAL);
        CHECK(sethostname(u.nodename, strlen(u.nodename)) == 0);
        struct utsname after;
        CHECK(uname(&after) == 0 && memcmp(&after, &u, sizeof u) == 0);
    }
    s.effective &= ~bit(CAP_SYS_ADMIN);
    CHECK(set(s) == 0);
    CHECK_ERRNO(sethostname(u.nodename, strlen(u.nodename)), EPERM);
    CHECK_ERRNO(setdomainname("x", 1), EPERM);
}
